import { formatAddress, PAGE_SIZE } from '../address.ts'
import type { CpuFeatures } from '../cpu/features.ts'
import { CoreError } from '../error.ts'
import {
  isMemoryKind,
  MemoryKind,
  memoryKindName,
  type MtrrKind,
  type MtrrRanges,
} from './memory-type.ts'

/** MSR numbers (SDM Vol. 3, 12.11.2; the ranges of the fixed ones: table 12-9). */
const IA32_MTRR_DEF_TYPE = 0x2ff
const IA32_MTRR_PHYSBASE0 = 0x200
const FIXED_REGISTERS: readonly (readonly [msr: number, start: number, bytesEach: number])[] = [
  [0x250, 0, 0x1_0000],
  [0x258, 0x8_0000, 0x4000],
  [0x259, 0xa_0000, 0x4000],
  ...Array.from({ length: 8 }, (_, n) => [0x268 + n, 0xc_0000 + n * 0x8000, 0x1000] as const),
]
/** As many pairs as fit below the fixed registers. */
const VARIABLE_PAIRS = (FIXED_REGISTERS[0]![0] - IA32_MTRR_PHYSBASE0) / 2

const FIXED_ENABLE = 1n << 10n
const MTRR_ENABLE = 1n << 11n
const VALID = 1n << 11n
/** Pieces that masks with holes may cut the address space into: no firmware that ever ran comes near. */
const MOST_BLOCKS = 2 ** 18

/** A valid pair: it holds the addresses that agree with `base` wherever `mask` has a bit. Both in pages of 4 KiB. */
interface VariableRange {
  readonly base: bigint
  readonly mask: bigint
  readonly kind: MtrrKind
}

interface MtrrRange {
  readonly start: number
  readonly end: number
  readonly kind: MtrrKind
}

/**
 * What the MTRRs of a CPU say of each address below 2^MAXPHYADDR, from the values of its MSRs by number (IA32_MTRR_DEF_TYPE, IA32_MTRR_PHYSBASEn and
 * PHYSMASKn, the fixed ranges below 1 MiB); one that is left out counts as 0. Where ranges overlap, UC wins and WT wins over WB (SDM Vol. 3, 12.11.4.1).
 * CORE_BAD_MEMORY_TYPE where hardware would refuse a value, and where what it makes of an overlap is undefined.
 */
export function decodeMtrrs(
  msrs: ReadonlyMap<number, bigint>,
  features: Pick<CpuFeatures, 'name' | 'maxPhysicalAddressBits'>,
): MtrrRanges {
  const control = msrs.get(IA32_MTRR_DEF_TYPE) ?? 0n
  const limit = 2 ** features.maxPhysicalAddressBits
  if ((control & MTRR_ENABLE) === 0n) return [{ start: 0, end: limit, kind: MemoryKind.UC }]
  const fixed = (control & FIXED_ENABLE) === 0n ? [] : fixedRanges(msrs)
  const map = new VariableMap(
    decodeKind(control, 'IA32_MTRR_DEF_TYPE'),
    (fixed.at(-1)?.end ?? 0) / PAGE_SIZE,
  )
  map.add(0, features.maxPhysicalAddressBits - 12, variableRanges(msrs, features), [])
  return mergeNeighbours([...fixed, ...map.ranges])
}

function fixedRanges(msrs: ReadonlyMap<number, bigint>): MtrrRange[] {
  const ranges = FIXED_REGISTERS.flatMap(([msr, first, bytes]) => {
    const value = msrs.get(msr) ?? 0n
    return Array.from({ length: 8 }, (_, index) => {
      const start = first + index * bytes
      const kind = decodeKind(value >> BigInt(index * 8), `MSR 0x${msr.toString(16)}`)
      return { start, end: start + bytes, kind }
    })
  })
  return mergeNeighbours(ranges)
}

function variableRanges(
  msrs: ReadonlyMap<number, bigint>,
  features: Pick<CpuFeatures, 'name' | 'maxPhysicalAddressBits'>,
): VariableRange[] {
  const ranges: VariableRange[] = []
  for (let pair = 0; pair < VARIABLE_PAIRS; pair++) {
    const base = msrs.get(IA32_MTRR_PHYSBASE0 + pair * 2) ?? 0n
    const mask = msrs.get(IA32_MTRR_PHYSBASE0 + pair * 2 + 1) ?? 0n
    if ((mask & VALID) === 0n) continue
    if ((base | mask) >> BigInt(features.maxPhysicalAddressBits) !== 0n) {
      throw new CoreError('CORE_BAD_MEMORY_TYPE', {
        expected: `variable MTRR ${pair} within ${features.maxPhysicalAddressBits} address bits`,
        found: `base 0x${base.toString(16)}, mask 0x${mask.toString(16)}`,
        hint: `the values are of a CPU with more physical address bits than ${features.name}`,
      })
    }
    const kind = decodeKind(base, `variable MTRR ${pair}`)
    ranges.push({ base: base >> 12n, mask: mask >> 12n, kind })
  }
  return ranges
}

function decodeKind(value: bigint, where: string): MtrrKind {
  const kind = Number(value & 0xffn)
  if (isMemoryKind(kind) && kind !== MemoryKind.UCMinus) return kind
  throw new CoreError('CORE_BAD_MEMORY_TYPE', {
    expected: 'an MTRR type: 0 (UC), 1 (WC), 4 (WT), 5 (WP) or 6 (WB)',
    found: `${kind} in ${where}`,
  })
}

/** Cuts the address space into halves until each piece lies wholly inside or outside of every variable range, however full of holes its mask is. */
class VariableMap {
  readonly ranges: MtrrRange[] = []
  readonly #defaultKind: MtrrKind
  /** First page that the variable ranges decide. */
  readonly #firstPage: number
  #blocks = 0

  constructor(defaultKind: MtrrKind, firstPage: number) {
    this.#defaultKind = defaultKind
    this.#firstPage = firstPage
  }

  /** Adds the 2^`bits` pages from `page`, all of them in ranges of the types `around`, and perhaps some in `candidates`. */
  add(
    page: number,
    bits: number,
    candidates: readonly VariableRange[],
    around: readonly MtrrKind[],
  ): void {
    const end = page + 2 ** bits
    if (end <= this.#firstPage) return
    if (++this.#blocks > MOST_BLOCKS) {
      throw new CoreError('CORE_BAD_MEMORY_TYPE', {
        expected: 'MTRR masks whose set bits follow one another',
        found: `masks that cut the address space into more than ${MOST_BLOCKS} pieces`,
        hint: 'firmware made for a CPU with fewer address bits leaves the highest bits of its masks clear',
      })
    }
    const width = BigInt(bits)
    const near = candidates.filter(
      ({ base, mask }) => ((BigInt(page) ^ base) & mask) >> width === 0n,
    )
    const partial = near.filter(({ mask }) => BigInt.asUintN(bits, mask) !== 0n)
    const kinds = [
      ...around,
      ...near.filter((range) => !partial.includes(range)).map((range) => range.kind),
    ]
    if (partial.length === 0 && page >= this.#firstPage) {
      const kind = this.#combine(kinds, page)
      this.ranges.push({ start: page * PAGE_SIZE, end: end * PAGE_SIZE, kind })
      return
    }
    this.add(page, bits - 1, partial, kinds)
    this.add(page + 2 ** (bits - 1), bits - 1, partial, kinds)
  }

  #combine(kinds: readonly MtrrKind[], page: number): MtrrKind {
    const different = new Set(kinds)
    if (different.size === 0) return this.#defaultKind
    if (different.size === 1) return kinds[0]!
    if (different.has(MemoryKind.UC)) return MemoryKind.UC
    const { WT, WB } = MemoryKind
    if (different.size === 2 && different.has(WT) && different.has(WB)) return WT
    throw new CoreError('CORE_BAD_MEMORY_TYPE', {
      expected: 'MTRRs that overlap only where one is UC, or one is WT and one WB',
      found: `${[...different].map(memoryKindName).join(' and ')} at ${formatAddress(page * PAGE_SIZE)}`,
      hint: 'processor behaviour is undefined there',
    })
  }
}

function mergeNeighbours(ranges: readonly MtrrRange[]): MtrrRange[] {
  const merged: MtrrRange[] = []
  for (const range of ranges) {
    const last = merged.at(-1)
    if (last === undefined || last.kind !== range.kind) merged.push(range)
    else merged[merged.length - 1] = { ...last, end: range.end }
  }
  return merged
}
