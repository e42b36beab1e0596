import { definePlugin, type Plugin } from '@trapdoor/harness'
import { rtNoAttr } from './q20-rt-no-attr.ts'
import { mmioMissing } from './q22-mmio-missing.ts'
import { page0Write } from './q26-page0-write.ts'

export { mmioMissing, page0Write, rtNoAttr }

const plugin: Plugin = definePlugin({
  name: '@trapdoor/firmware-memory-map',
  apiVersion: 1,
  quirks: [rtNoAttr, mmioMissing, page0Write],
})

export default plugin
