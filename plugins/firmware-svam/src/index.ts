import { definePlugin, type Plugin } from '@trapdoor/harness'
import { bsTouchSvam } from './q01-bs-touch-svam.ts'
import { bsTouchRuntime } from './q02-bs-touch-runtime.ts'
import { physPointerStale } from './q03-phys-pointer-stale.ts'
import { svamIdentityCrash } from './q05-svam-identity-crash.ts'
import { svamRequired } from './q06-svam-required.ts'
import { relativeOffset } from './q09-relative-offset.ts'
import { svamTwice } from './q12-svam-twice.ts'
import { tablePtrConverted } from './q17-table-ptr-converted.ts'

export {
  bsTouchRuntime,
  bsTouchSvam,
  physPointerStale,
  relativeOffset,
  svamIdentityCrash,
  svamRequired,
  svamTwice,
  tablePtrConverted,
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
    relativeOffset,
    svamTwice,
    tablePtrConverted,
  ],
})

export default plugin
