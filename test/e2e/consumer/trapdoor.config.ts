import { defineConfig, definePlugin } from '@trapdoor/harness'
import { timeStopsAfterSvam } from './acme-quirk.ts'
import { acmeWindow } from './acme-strategy.ts'

const acme = definePlugin({
  name: 'trapdoor-plugin-acme',
  apiVersion: 1,
  quirks: [timeStopsAfterSvam],
  strategies: [acmeWindow],
})

export default defineConfig({
  memoryMaps: [{ id: 'machine', file: 'machine.log' }],
  plugins: [acme],
  firmware: ['none', 'ACME1'],
  strategies: ['acme-window', 'private-efi-pgd'],
  scenarios: ['boot', 'kexec'],
})
