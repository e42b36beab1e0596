import { definePlugin, type Plugin } from '@trapdoor/harness'
import { bsTouchSvam } from './q01-bs-touch-svam.ts'
import { bsTouchRuntime } from './q02-bs-touch-runtime.ts'
import { physPointerStale } from './q03-phys-pointer-stale.ts'
import { svamIdentityCrash } from './q05-svam-identity-crash.ts'
import { svamRequired } from './q06-svam-required.ts'
import { svamNeedsBoth } from './q07-svam-needs-both.ts'
import { unlistedAtOffset } from './q07b-unlisted-at-offset.ts'
import { lowHalfCrash } from './q08-low-half-crash.ts'
import { relativeOffset } from './q09-relative-offset.ts'
import { contiguity } from './q10-contiguity.ts'
import { fullMapChoke } from './q11-full-map-choke.ts'
import { svamTwice } from './q12-svam-twice.ts'
import { svamSelfStale } from './q13-svam-self-stale.ts'
import { noFixup } from './q15-no-fixup.ts'
import { lockList } from './q16-lock-list.ts'
import { tablePtrConverted } from './q17-table-ptr-converted.ts'
import { svamFailsAfterCommit } from './q18-svam-fails-after-commit.ts'

export {
  bsTouchRuntime,
  bsTouchSvam,
  contiguity,
  fullMapChoke,
  lockList,
  lowHalfCrash,
  noFixup,
  physPointerStale,
  relativeOffset,
  svamFailsAfterCommit,
  svamIdentityCrash,
  svamNeedsBoth,
  svamRequired,
  svamSelfStale,
  svamTwice,
  tablePtrConverted,
  unlistedAtOffset,
}

const plugin: Plugin = definePlugin({
  name: '@trapdoor/firmware-svam',
  apiVersion: 1,
  quirks: [
    bsTouchSvam,
    bsTouchRuntime,
    physPointerStale,
    svamIdentityCrash,
    svamRequired,
    svamNeedsBoth,
    unlistedAtOffset,
    lowHalfCrash,
    relativeOffset,
    contiguity,
    fullMapChoke,
    svamTwice,
    svamSelfStale,
    noFixup,
    lockList,
    tablePtrConverted,
    svamFailsAfterCommit,
  ],
})

export default plugin
