import {
  findTypeConflicts,
  inspectAddress,
  type Inspection,
  type MappedRange,
  mappedRanges,
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
  return kernel.roots.map(({ name, root }) => {
    const context = kernel.bootCpu.translationContext(root)
    const { ranges, tables } = mappedRanges(context)
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

/** What the tables that firmware runs under cost. */
export function tableCost(
  kernel: Kernel,
  surveys: readonly TableSurvey[],
  conflicts: readonly TypeConflict[],
): Omit<StrategyCost, 'perCall' | 'price'> {
  const ranges = surveys.find((survey) => survey.usedForCalls)?.ranges ?? []
  const low = ranges.filter((range) => range.start < 2n ** 47n && !range.user)
  const converted = (kernel.efi?.virtualMode === true ? kernel.efi.memoryMap : []).filter(
    (descriptor) => descriptor.virtualStart !== 0n,
  )
  return {
    tablePages: kernel.efiTablePages,
    mappedBytes:
      sumBytes(low) +
      converted.reduce((sum, each) => sum + descriptorEnd(each) - each.physicalStart, 0),
    writableExecutableBytes: sumBytes(ranges.filter((range) => range.writable && range.executable)),
    pageZeroMapped: ranges[0]?.start === 0n,
    bootServicesBytes: bootServicesBytes(kernel, [
      ...low,
      ...ranges.filter((range) => isConverted(range, converted)),
    ]),
    conflictingTypeBytes: conflicts.reduce((sum, { start, end }) => sum + end - start, 0),
  }
}

/** Whether a range lies where the firmware was told that one of its regions is. */
function isConverted(range: MappedRange, regions: readonly MemoryDescriptor[]): boolean {
  return regions.some(
    ({ virtualStart, numberOfPages }) =>
      virtualStart < range.start + BigInt(range.bytes) &&
      range.start < virtualStart + BigInt(numberOfPages * PAGE_SIZE),
  )
}

/** Bytes of boot-services memory that some of the ranges map, each once. */
function bootServicesBytes(kernel: Kernel, ranges: readonly MappedRange[]): number {
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

function sumBytes(ranges: readonly MappedRange[]): number {
  return ranges.reduce((sum, range) => sum + range.bytes, 0)
}
