import { encodeUcs2, parseGuid } from '@trapdoor/uefi'
import { NV_BS_RT, type Variable } from './variable-store.ts'

/** The variable that keeps the high half of the monotonic count over resets, as edk2's MonotonicCounterRuntimeDxe has it. */
export const MONOTONIC_COUNT_VARIABLE: Variable = {
  name: encodeUcs2('MTC'),
  vendor: parseGuid('eb704011-1402-11d3-8e77-00a0c969723b'),
  attributes: NV_BS_RT,
  data: new Uint8Array(4),
}
