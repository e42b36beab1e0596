import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  BROADWELL,
  type Cpu,
  Cr0,
  Cr4,
  Efer,
  GeneralProtection,
  inspectAddress,
  type Inspection,
  Machine,
  PageFault,
} from '../src/index.ts'
import {
  type ByteMap,
  accessBySdm,
  readQuad,
  type SdmAccess,
  type SdmOutcome,
  type SdmProcessor,
  walkBySdm,
  writeQuad,
} from './sdm-paging.ts'

/** Root, then two tables of each lower level: neighbours, in the first and beyond the fourth GiB. */
const TABLES = [
  [0x1000n],
  [0x2000n, 0x1_2345_6000n],
  [0x3000n, 0xf_ffff_f000n],
  [0x4000n, 0x2_0000_1000n],
] as const
/** Indexes at which the tables hold entries; the root's are one in each half of the address space. */
const USED_INDEXES = [
  [1n, 511n],
  [0n, 257n],
  [3n, 511n],
  [0n, 256n],
] as const

/** True once in so many times; fast-check's own bias to small values would make it half of them. */
const seldom = (chances: number): fc.Arbitrary<boolean> =>
  fc.noBias(fc.nat(chances - 1)).map((value) => value === 0)
const mostly = (chances: number): fc.Arbitrary<boolean> =>
  fc.noBias(fc.nat(chances - 1)).map((value) => value !== 0)
/** A value once in so many times, else undefined. */
const onceIn = <T>(chances: number, arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.tuple(seldom(chances), arbitrary).map(([isChosen, value]) => (isChosen ? value : undefined))

interface RandomEntry {
  readonly flags: readonly boolean[]
  readonly noExecute: boolean
  /** Bits 62 to 52, which are ignored, and 11 to 9. */
  readonly ignoredHigh: number
  readonly ignoredLow: number
  readonly pageSize: boolean
  readonly pageSizeInRoot: boolean
  readonly target: bigint
  readonly pat: boolean
  /** A bit from 12 to 51 that is set whatever it means. */
  readonly strayBit: number | undefined
  readonly nextTable: 0 | 1
}

const randomEntry: fc.Arbitrary<RandomEntry> = fc.record({
  // P, R/W, U/S, PWT, PCD, A, D
  flags: fc.tuple(
    mostly(25),
    mostly(5),
    mostly(5),
    fc.boolean(),
    fc.boolean(),
    fc.boolean(),
    fc.boolean(),
  ),
  noExecute: seldom(8),
  ignoredHigh: fc.nat(0x7ff),
  ignoredLow: fc.nat(15),
  pageSize: seldom(4),
  pageSizeInRoot: seldom(40),
  target: fc.bigInt(0n, (1n << 40n) - 1n),
  pat: fc.boolean(),
  strayBit: onceIn(25, fc.integer({ min: 12, max: 51 })),
  nextTable: fc.constantFrom(0, 1),
})

function encodeEntry(entry: RandomEntry, level: number, maxPhyAddr: number): bigint {
  const isLarge = (level === 1 || level === 2) && entry.pageSize
  const isLeaf = isLarge || level === 3
  const alignment = level === 1 ? 30n : level === 2 ? 21n : 12n
  let value = isLeaf
    ? (BigInt.asUintN(maxPhyAddr, entry.target << 12n) >> alignment) << alignment
    : TABLES[level + 1]![entry.nextTable]!
  for (const [position, flag] of entry.flags.entries()) if (flag) value |= 1n << BigInt(position)
  if (isLarge || (level === 0 && entry.pageSizeInRoot)) value |= 1n << 7n
  if (isLeaf && entry.pat) value |= level === 3 ? 1n << 7n : 1n << 12n
  // Bit 8 is G in a leaf and ignored elsewhere, as 11 to 9 are.
  value |= BigInt(entry.ignoredLow) << 8n
  value |= BigInt(entry.ignoredHigh) << 52n
  if (entry.noExecute) value |= 1n << 63n
  if (entry.strayBit !== undefined) value |= 1n << BigInt(entry.strayBit)
  return value
}

const randomProcessor = fc.record({
  wp: fc.boolean(),
  nxe: mostly(4),
  smep: fc.boolean(),
  smap: fc.boolean(),
  ac: fc.boolean(),
  maxPhyAddr: fc.constantFrom(36, 40, 46, 52),
  page1gb: mostly(4),
})

const randomAccess: fc.Arbitrary<SdmAccess> = fc
  .record({
    used: fc.tuple(
      fc.constantFrom(0, 1),
      fc.constantFrom(0, 1),
      fc.constantFrom(0, 1),
      fc.constantFrom(0, 1),
    ),
    stray: onceIn(4, fc.record({ level: fc.nat(3), index: fc.nat(511) })),
    offset: fc.nat(4095),
    isCanonical: mostly(30),
    kind: fc.constantFrom('read' as const, 'write' as const, 'execute' as const),
    user: fc.boolean(),
  })
  .map(({ used, stray, offset, isCanonical, kind, user }) => {
    let linear = BigInt(offset)
    for (const [level, choice] of used.entries()) {
      const index = stray?.level === level ? BigInt(stray.index) : USED_INDEXES[level]![choice]
      linear |= index << BigInt(39 - 9 * level)
    }
    const extended = BigInt.asUintN(64, BigInt.asIntN(48, linear))
    return { linear: isCanonical ? extended : extended ^ (1n << 60n), kind, user }
  })

const randomScene = fc.record({
  processor: randomProcessor,
  entries: fc.array(randomEntry, { minLength: 14, maxLength: 14 }),
  accesses: fc.array(randomAccess, { minLength: 1, maxLength: 16 }),
  flush: fc.boolean(),
})

interface Scene {
  readonly machine: Machine
  readonly cpu: Cpu
  readonly bytes: ByteMap
  readonly processor: SdmProcessor
  readonly entryAddresses: readonly bigint[]
}

/** The same tables in core's memory and in the oracle's. */
function buildScene(settings: Omit<SdmProcessor, 'cr3'>, entries: readonly RandomEntry[]): Scene {
  const processor = { ...settings, cr3: TABLES[0][0] }
  const machine = new Machine({
    features: {
      ...BROADWELL,
      name: 'random',
      maxPhysicalAddressBits: settings.maxPhyAddr,
      pages1G: settings.page1gb,
    },
  })
  const bytes: ByteMap = new Map()
  const entryAddresses: bigint[] = []
  for (const [level, tables] of TABLES.entries()) {
    for (const table of tables) {
      for (const index of USED_INDEXES[level]!) {
        const address = table + index * 8n
        const value = encodeEntry(entries[entryAddresses.length]!, level, settings.maxPhyAddr)
        entryAddresses.push(address)
        writeQuad(bytes, address, value)
        machine.memory.write64(Number(address), value)
      }
    }
  }
  const cpu = machine.bootCpu
  cpu.writeCr0(Cr0.PE | Cr0.PG | (settings.wp ? Cr0.WP : 0))
  cpu.writeCr4(Cr4.PAE | (settings.smep ? Cr4.SMEP : 0) | (settings.smap ? Cr4.SMAP : 0))
  cpu.writeEfer(Efer.LME | (settings.nxe ? Efer.NXE : 0))
  cpu.alignmentCheck = settings.ac
  cpu.writeCr3(Number(processor.cr3))
  return { machine, cpu, bytes, processor, entryAddresses }
}

function accessByCore(cpu: Cpu, access: SdmAccess): SdmOutcome & { readonly cr2?: bigint } {
  cpu.cpl = access.user ? 3 : 0
  try {
    return { result: 'physical', physical: BigInt(cpu.translate(access.linear, access.kind)) }
  } catch (error) {
    if (error instanceof PageFault) {
      return { result: '#PF', errorCode: error.errorCode, cr2: cpu.cr2 }
    }
    if (error instanceof GeneralProtection) return { result: '#GP' }
    throw error
  }
}

test('every access ends as the SDM says, and leaves the accessed and dirty flags that it says', () => {
  const seen = { physical: 0, '#PF': 0, '#GP': 0 }
  fc.assert(
    fc.property(randomScene, ({ processor: settings, entries, accesses, flush }) => {
      const { machine, cpu, bytes, processor, entryAddresses } = buildScene(settings, entries)
      for (const access of accesses) {
        // Without the flush the TLB answers; while the tables stay as they are, that changes nothing.
        if (flush) cpu.writeCr3(cpu.cr3)
        const expected = accessBySdm(bytes, processor, access)
        const cr2 = expected.result === '#PF' ? { cr2: access.linear } : {}
        expect(accessByCore(cpu, access)).toEqual({ ...expected, ...cr2 })
        for (const address of entryAddresses) {
          expect(machine.memory.read64(Number(address))).toBe(readQuad(bytes, address))
        }
        seen[expected.result]++
      }
    }),
    { numRuns: 1500, seed: 20_100_813 },
  )
  // The property says little unless each outcome occurs often.
  expect(Math.min(seen.physical, seen['#PF'])).toBeGreaterThan(2000)
  expect(seen['#GP']).toBeGreaterThan(100)
})

/** An inspection, with the addresses of the entries that a page was found through instead of the steps. */
function withoutSteps({ steps, ...rest }: Inspection): object {
  return rest.status === 'mapped'
    ? { ...rest, entries: steps.map((step) => BigInt(step.table + step.index * 8)) }
    : rest
}

test('the inspector reads the tables as the CPU does, and changes nothing', () => {
  fc.assert(
    fc.property(randomScene, ({ processor: settings, entries, accesses }) => {
      const { machine, cpu, bytes, processor, entryAddresses } = buildScene(settings, entries)
      for (const { linear } of accesses) {
        const inspection = inspectAddress(cpu.translationContext(), linear)
        const canonical = BigInt.asUintN(64, BigInt.asIntN(48, linear)) === linear
        const walk = canonical
          ? walkBySdm(bytes, processor, linear)
          : ({ end: 'non-canonical' } as const)
        expect(withoutSteps(inspection)).toEqual(
          walk.end === 'page'
            ? {
                status: 'mapped',
                physical: Number(walk.physical),
                pageSize: Number(walk.pageSize),
                writable: walk.writable,
                user: walk.userMode,
                executable: !walk.executeDisable,
                global: walk.global,
                patIndex: walk.patIndex,
                protectionKey: Number((readQuad(bytes, walk.entries.at(-1)!) >> 59n) & 15n),
                entries: walk.entries,
              }
            : { status: walk.end },
        )
        for (const step of inspection.steps) {
          expect(step.value).toBe(readQuad(bytes, BigInt(step.table + step.index * 8)))
        }
      }
      for (const address of entryAddresses) {
        expect(machine.memory.read64(Number(address))).toBe(readQuad(bytes, address))
      }
      expect(cpu.tlb.size).toBe(0)
    }),
    { numRuns: 400, seed: 20_100_816 },
  )
})
