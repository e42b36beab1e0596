import { defineConfig } from '@trapdoor/harness'

// Everything there is: every strategy, every quirk alone and none, every scenario, on the three boots of OVMF that the demo has.
export default defineConfig({
  memoryMaps: ['demo/ovmf-pc-2m.txt', 'demo/ovmf-q35-4m.txt', 'demo/ovmf-q35-secboot.txt'],
  firmware: ['*'],
  strategies: ['*'],
  scenarios: ['*'],
  output: '../results-all.json',
})
