import { BOTH, stateProduct } from '../trial/control-product.ts'
import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import { ACCESSES } from '../oracle/access-rights.ts'
import { PLAIN_STATE } from '../oracle/register-state.ts'
import { Path } from '../oracle/translation.ts'
import type { Trial } from '../trial/trial.ts'
import { stateSet } from './state-set.ts'

const DATA = 0x200_0000
/** Present, R/W, U/S, accessed, dirty, and what is left to one more bit. */
const FLAGS: readonly number[] = [1, 2, 4, 0x20, 0x40]

function flagBits(flags: number): number {
  return FLAGS.reduce((low, bit, position) => low | ((flags >>> position) & 1 ? bit : 0), 0)
}

/** One bit that is set in the PDE or the PTE beside the flags: at which depth below the PDPTE, low half, high half. */
type MoreBit = readonly [entry: 0 | 1, low: number, high: number]

/** None; XD, bits 62, 52, 51 and M (36 or 46) of PDE and PTE; bits 13 and 20 of a PDE that maps a page. */
const PAE_BITS: readonly MoreBit[] = [
  [0, 0, 0],
  [0, 0, 1 << 31],
  [1, 0, 1 << 31],
  [0, 0, 1 << 30],
  [1, 0, 1 << 30],
  [0, 0, 1 << 20],
  [1, 0, 1 << 20],
  [0, 0, 1 << 19],
  [1, 0, 1 << 19],
  [0, 0, 1 << 14],
  [1, 0, 1 << 14],
  [0, 0, 1 << 4],
  [1, 0, 1 << 4],
  [0, 1 << 13, 0],
  [0, 1 << 20, 0],
]

/** The flags of PDE and PTE in PAE paging, where R/W, U/S and XD of the two decide and a PDPTE has no rights. */
export const PAE_SET: ConformanceSet = stateSet({
  name: 'pae',
  title:
    'PAE paging: PDE, PTE flags, one more bit × 8 accesses × WP, NXE, SMEP, SMAP, AC × MAXPHYADDR',
  groups: () =>
    ([36, 46] as const).flatMap((physicalAddressBits) =>
      (['lazy', 'eager'] as const).map((accessedFlags) =>
        stateProduct(
          { ...PLAIN_STATE, structure: 'PAE', physicalAddressBits, accessedFlags },
          { wp: BOTH, nxe: BOTH, smep: BOTH, smap: BOTH, ac: BOTH },
        ),
      ),
    ),
  combinations(trial: Trial, size: Size): void {
    trial.select(0, 0xc0a0_3000 | 0)
    const { structures } = trial
    const path = new Path()
    path.set(0, structures.tableLow(0) | 1, structures.tableHigh(0))
    const stride = size === 'full' ? 1 : 73
    let turn = 0
    for (const [entry, moreLow, moreHigh] of PAE_BITS)
      for (const large of BOTH)
        for (let flags = 0; flags < 1024; flags++) {
          if (turn++ % stride !== 0) continue
          // An address bit of a pointer leads to another table, which is empty.
          const astray = !large && entry === 0 && (moreLow !== 0 || isAddress(trial, moreHigh))
          path.set(
            1,
            (large ? DATA | 0x80 : structures.tableLow(1)) |
              flagBits(flags) |
              (entry === 0 ? moreLow : 0),
            entry === 0 ? moreHigh : 0,
          )
          path.set(
            2,
            astray ? 0 : DATA | flagBits(flags >>> 5) | (entry === 1 ? moreLow : 0),
            !astray && entry === 1 ? moreHigh : 0,
          )
          for (const access of ACCESSES) trial.check(path, access)
        }
  },
})

function isAddress(trial: Trial, high: number): boolean {
  const top = trial.processor.state.physicalAddressBits - 32
  return high !== 0 && 31 - Math.clz32(high) < top
}

/** None, and the bits of a 4 MiB page's PDE that are reserved or address bits 32 and up; bit 8 of each entry. */
const BITS_32_BITS: readonly MoreBit[] = [
  [0, 0, 0],
  ...Array.from({ length: 9 }, (_, index) => [0, 1 << (13 + index), 0] as const),
  [0, 1 << 12, 0],
  [0, 1 << 8, 0],
  [1, 1 << 8, 0],
  [1, 1 << 7, 0],
]

/** The flags of PDE and PTE in 32-bit paging, with and without 4 MiB pages and the 36-bit extension of their addresses. */
export const BITS_32_SET: ConformanceSet = stateSet({
  name: '32-bit',
  title:
    '32-bit paging: PDE, PTE flags, one more bit × 8 accesses × PSE, PSE-36, MAXPHYADDR, WP, NXE, SMEP, SMAP, AC',
  groups: () =>
    ([36, 39, 52] as const).flatMap((physicalAddressBits) =>
      BOTH.map((pse36) =>
        stateProduct(
          {
            ...PLAIN_STATE,
            structure: '32-bit',
            physicalAddressBits,
            pse36,
            accessedFlags: pse36 ? 'lazy' : 'eager',
          },
          { pse: BOTH, wp: BOTH, nxe: BOTH, smep: BOTH, smap: BOTH, ac: BOTH },
        ),
      ),
    ),
  combinations(trial: Trial, size: Size): void {
    trial.select(0, 0x8040_3000 | 0)
    const { structures } = trial
    const path = new Path()
    const stride = size === 'full' ? 1 : 151
    let turn = 0
    for (const [entry, more] of BITS_32_BITS)
      for (const large of BOTH)
        for (let flags = 0; flags < 1024; flags++) {
          if (turn++ % stride !== 0) continue
          const maps = large && trial.processor.state.pse
          const astray = !maps && entry === 0 && more >= 1 << 12
          // With CR4.PSE clear a PDE with PS points to a table all the same.
          path.set(
            0,
            (maps ? 0x4000_0000 : structures.tableLow(0)) |
              (large ? 0x80 : 0) |
              flagBits(flags) |
              (entry === 0 ? more : 0),
            0,
          )
          path.set(1, astray ? 0 : DATA | flagBits(flags >>> 5) | (entry === 1 ? more : 0), 0)
          for (const access of ACCESSES) trial.check(path, access)
        }
  },
})
