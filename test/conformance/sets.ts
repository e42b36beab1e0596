import { ACCESS_SETS } from './access-product/access-set.ts'
import type { ConformanceSet } from './runner/conformance-set.ts'
import { CACHED_RIGHTS_SET } from './flushes/cached-rights-set.ts'
import { RELAXED_RIGHTS_SET } from './flushes/relaxed-rights-set.ts'
import { STRUCTURE_CACHE_SET } from './flushes/structure-cache-set.ts'
import { TLB_SET } from './flushes/tlb-set.ts'
import { FEATURE_SET } from './modes/feature-set.ts'
import { MODE_SEQUENCES_SET, MODE_TRANSITIONS_SET } from './modes/mode-sets.ts'
import { ADDRESSES_SET } from './sets/addresses.ts'
import { GIGABYTE_SET } from './sets/gigabyte.ts'
import { KEYS_SET } from './sets/keys.ts'
import { BITS_32_SET, PAE_SET } from './sets/legacy-paging.ts'
import { FIRST_FAULT_SET, LEVELS_SET } from './sets/levels.ts'
import { LINEAR_ADDRESSES_SET } from './sets/linear-addresses.ts'
import { MAXPHYADDR_SET } from './sets/maxphyaddr.ts'
import { PDPTES_SET } from './sets/pdptes.ts'
import { SMAP_SET } from './sets/smap.ts'

/** Every set, in the order in which they are reported. */
export const SETS: readonly ConformanceSet[] = [
  ...ACCESS_SETS,
  SMAP_SET,
  LEVELS_SET,
  FIRST_FAULT_SET,
  GIGABYTE_SET,
  KEYS_SET,
  MAXPHYADDR_SET,
  ADDRESSES_SET,
  LINEAR_ADDRESSES_SET,
  PAE_SET,
  PDPTES_SET,
  BITS_32_SET,
  TLB_SET,
  STRUCTURE_CACHE_SET,
  CACHED_RIGHTS_SET,
  RELAXED_RIGHTS_SET,
  MODE_SEQUENCES_SET,
  MODE_TRANSITIONS_SET,
  FEATURE_SET,
]

/** The sets that a name means: the one of that name, or all below it, as "access" means "access/4-level/52/lazy". */
export function setsNamed(name: string): readonly ConformanceSet[] {
  return SETS.filter((set) => set.name === name || set.name.startsWith(`${name}/`))
}
