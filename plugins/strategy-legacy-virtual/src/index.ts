import { definePlugin, type Plugin } from '@trapdoor/harness'
import { legacyVirtual } from './legacy-virtual.ts'

export { enterVirtualMode, legacyVirtual } from './legacy-virtual.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/strategy-legacy-virtual',
  apiVersion: 1,
  strategies: [legacyVirtual],
})

export default plugin
