import { definePlugin, type Plugin } from '@trapdoor/harness'
import { rtNoAttr } from './q20-rt-no-attr.ts'
import { mmioNoCacheAttr } from './q21-mmio-no-cache-attr.ts'
import { mmioMissing } from './q22-mmio-missing.ts'
import { zeroOrWrapMd } from './q23-zero-or-wrap-md.ts'
import { overlapUnsorted } from './q24-overlap-unsorted.ts'
import { page0Write } from './q26-page0-write.ts'
import { mapChangesDuringEbs } from './q28-map-changes-during-ebs.ts'
import { mapNeverSettles } from './q28b-map-never-settles.ts'
import { convUsed } from './q32-conv-used.ts'

export {
  convUsed,
  mapChangesDuringEbs,
  mapNeverSettles,
  mmioMissing,
  mmioNoCacheAttr,
  overlapUnsorted,
  page0Write,
  rtNoAttr,
  zeroOrWrapMd,
}

const plugin: Plugin = definePlugin({
  name: '@trapdoor/firmware-memory-map',
  apiVersion: 1,
  quirks: [
    rtNoAttr,
    mmioNoCacheAttr,
    mmioMissing,
    zeroOrWrapMd,
    overlapUnsorted,
    page0Write,
    mapChangesDuringEbs,
    mapNeverSettles,
    convUsed,
  ],
})

export default plugin
