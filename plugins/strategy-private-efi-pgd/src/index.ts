import { definePlugin, type Plugin } from '@trapdoor/harness'
import { privateEfiPgd } from './private-efi-pgd.ts'

export { EfiPgdSwitch, SAVE_AREA } from './efi-pgd-switch.ts'
export { privateEfiPgd } from './private-efi-pgd.ts'
export { PATCH_STATES } from './states.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/strategy-private-efi-pgd',
  apiVersion: 1,
  strategies: [privateEfiPgd],
})

export default plugin
