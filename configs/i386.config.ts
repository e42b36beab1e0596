import { defineConfig } from '@trapdoor/harness'

/**
 * 32-bit firmware: OVMF for ia32 on machines with more memory than 896 MiB, which is all that i386 maps for good, and with memory above 4 GiB, which 32-bit pointers do not reach. Below it 32-bit kernels, and
 * 64-bit ones in mixed mode; a 64-bit kernel without that is there to be refused.
 */
export default defineConfig({
  output: '../results-ia32.json',
  memoryMaps: [
    { id: 'ovmf-ia32-1g', file: 'i386/ovmf-ia32-q35-1g.txt', architecture: 'ia32' },
    { id: 'ovmf-ia32-4g', file: 'i386/ovmf-ia32-q35-4g.txt', architecture: 'ia32' },
  ],
  firmware: ['none', 'Q01', 'Q03', 'Q05', 'Q06', 'Q21', 'Q22', 'Q26', 'Q44'],
  strategies: [
    'i386-legacy-virtual',
    ['i386-legacy-virtual', { paging: '32-bit' }],
    'i386-linux-3.4',
    ['i386-linux-3.4', { paging: '32-bit' }],
    'i386-linux-3.18',
    ['i386-linux-3.18', { paging: '32-bit' }],
    'i386-paging-off',
    ['i386-paging-off', { paging: '32-bit' }],
    'i386-private-efi-pgd',
    ['i386-private-efi-pgd', { paging: '32-bit' }],
    ['i386-private-efi-pgd', { above: 'refuse' }],
    ['i386-private-efi-pgd', { split: '1g' }],
    'linux-3.15-mixed',
    'linux-4.9-mixed',
    'linux-5.6-mixed',
    'linux-6.1-mixed',
    'linux-6.1',
  ],
  scenarios: ['boot', 'services', 'growth', 'kexec', 'kdump'],
})
