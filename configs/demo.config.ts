import { defineConfig } from '@trapdoor/harness'

// Three boots of OVMF that differ in chipset, memory above 4 GiB, and where runtime services keep their variables.
export default defineConfig({
  memoryMaps: ['demo/ovmf-pc-2m.txt', 'demo/ovmf-q35-4m.txt', 'demo/ovmf-q35-secboot.txt'],
  firmware: [
    'none',
    'Q01',
    'Q02',
    'Q03',
    'Q05',
    'Q06',
    'Q09',
    'Q12',
    'Q17',
    'Q20',
    'Q22',
    'Q26',
    'Q44',
  ],
  strategies: [
    'legacy-virtual',
    'private-efi-pgd',
    'global-identity-map',
    'virtual-address-passing',
    'linux-4.3',
    'linux-6.1',
    'xen',
    'windows',
  ],
  scenarios: ['boot', 'services', 'kexec', 'kdump'],
  expect: 'demo.expected.json',
  output: '../results.json',
})
