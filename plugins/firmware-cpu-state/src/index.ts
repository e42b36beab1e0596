import { definePlugin, type Plugin } from '@trapdoor/harness'
import { ifEnabled } from './q44-if-enabled.ts'

export { ifEnabled }

const plugin: Plugin = definePlugin({
  name: '@trapdoor/firmware-cpu-state',
  apiVersion: 1,
  quirks: [ifEnabled],
})

export default plugin
