import { definePlugin, type Plugin } from '@trapdoor/harness'
import { BAD_DRIVERS } from './variants.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/firmware-bad-drivers',
  apiVersion: 1,
  quirks: BAD_DRIVERS,
})

export default plugin
