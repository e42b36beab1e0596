import {
  findTypeConflicts,
  inspectAddress,
  type Inspection,
  type MappedRange,
  mappedRangesOfAll,
  PAGE_SIZE,
  type TypeConflict,
} from '@trapdoor/core'
import type { Kernel } from '@trapdoor/kernel'
import { descriptorEnd, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import type { StrategyCost } from '../results/results.ts'

/** What one root of page tables maps. */
export interface TableSurvey {
  /** Such as "first kernel". */
  readonly kernel: string
  /** Such as "efi_pgd". */
  readonly name: string
  /** Physical address of the root table. */
  readonly root: number
  /** Whether firmware ran under it. */
  readonly usedForCalls: boolean
  /** Pages that hold the tables, those shared with other roots included. */
  readonly tablePages: number
  readonly ranges: readonly MappedRange[]
  /** Walks these tables for a linear address, as an inspector. */
  inspect(address: bigint): Inspection
}

/** Every root of a kernel with what it maps; firmware ran under those in `rootsOfCalls`. */
export function surveyTables(kernel: Kernel, rootsOfCalls: ReadonlySet<number>): TableSurvey[] {
  const contexts = kernel.roots.map(({ root }) => kernel.bootCpu.translationContext(root))
  const surveys = mappedRangesOfAll(contexts)
  return kernel.roots.map(({ name, root }, index) => {
    const context = contexts[index]!
    const { ranges, tables } = surveys[index]!
    return {
      kernel: kernel.name,
      name,
      root,
      usedForCalls: rootsOfCalls.has(root),
      tablePages: tables.length,
      ranges,
      inspect: (address) => inspectAddress(context, address),
    }
  })
}

/** Memory that the roots of a kernel map with more than one effective type. */
export function typeConflicts(kernel: Kernel, surveys: readonly TableSurvey[]): TypeConflict[] {
  const caching = { pat: kernel.bootCpu.pat, mtrrs: kernel.machine.mtrrs }
  return findTypeConflicts(surveys.map(({ name, ranges }) => ({ name, ranges, caching })))
}

/** What the tables that firmware runs under cost: all of it is read from the tables, as they are now. */
export function tableCost(
  kernel: Kernel,
  surveys: readonly TableSurvey[],
  conflicts: readonly TypeConflict[],
): Omit<StrategyCost, 'perCall' | 'price'> {
  const ranges = surveys.find((survey) => survey.usedForCalls)?.ranges ?? []
  const exposed = exposedRanges(kernel, ranges)
  return {
    tablePages: kernel.efiTablePages,
    mappedBytes: sumBytes(exposed),
    writableExecutableBytes: sumBytes(ranges.filter((range) => range.writable && range.executable)),
    pageZeroMapped: ranges[0]?.start === 0n,
    bootServicesBytes: bootServicesBytes(kernel, exposed),
    conflictingTypeBytes: conflicts.reduce((sum, { start, end }) => sum + end - start, 0),
  }
}

/** A piece of what tables map: bytes from one physical address on. */
type Piece = Pick<MappedRange, 'physical' | 'bytes'>

/** What is mapped for the firmware: all that is the supervisor's in the low half, and in the kernel's half the regions where firmware was told that they are. Each linear byte is in one piece. */
function exposedRanges(kernel: Kernel, ranges: readonly MappedRange[]): Piece[] {
  const { kernelHalfStart } = kernel.tables
  const converted = (kernel.efi?.virtualMode === true ? kernel.efi.memoryMap : [])
    .filter(({ virtualStart }) => virtualStart >= kernelHalfStart)
    .toSorted((a, b) => (a.virtualStart < b.virtualStart ? -1 : 1))
  return ranges.flatMap((range) => {
    if (range.user) return []
    return range.start < kernelHalfStart ? [range] : piecesOf(range, converted)
  })
}

/** The pieces of a range that lie in regions, which are in the order of their virtual addresses and may overlap. */
function piecesOf(range: MappedRange, regions: readonly MemoryDescriptor[]): Piece[] {
  const end = range.start + BigInt(range.bytes)
  let from: bigint = range.start
  return regions.flatMap(({ virtualStart, numberOfPages }) => {
    const regionEnd = virtualStart + BigInt(numberOfPages * PAGE_SIZE)
    const first = virtualStart > from ? virtualStart : from
    const last = regionEnd < end ? regionEnd : end
    if (first >= last) return []
    from = last
    return [{ physical: range.physical + Number(first - range.start), bytes: Number(last - first) }]
  })
}

/** Bytes of boot-services memory that some of the ranges map, each once. */
function bootServicesBytes(kernel: Kernel, ranges: readonly Piece[]): number {
  const regions = (kernel.efi?.firmwareMap ?? []).filter(
    ({ type }) => type === MemoryType.BootServicesCode || type === MemoryType.BootServicesData,
  )
  const ascending = ranges.toSorted((a, b) => a.physical - b.physical)
  let bytes = 0
  for (const region of regions) {
    const regionEnd = descriptorEnd(region)
    let counted: number = region.physicalStart
    for (const { physical, bytes: length } of ascending) {
      if (physical >= regionEnd) break
      const end = Math.min(physical + length, regionEnd)
      const start = Math.max(physical, counted)
      if (start >= end) continue
      bytes += end - start
      counted = end
    }
  }
  return bytes
}

function sumBytes(ranges: readonly Piece[]): number {
  return ranges.reduce((sum, range) => sum + range.bytes, 0)
}
