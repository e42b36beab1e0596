import { type PageTableBuilder, phys, virt } from '@trapdoor/core'
import type { Kernel, StrategyDefinition } from '@trapdoor/kernel'
import { descriptorEnd, isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'

/** What a strategy does wrong with the regions of a type; the others are mapped 1:1 and may be written to and executed. */
export interface Gap {
  readonly type: number
  readonly as: 'absent' | 'read-only' | 'no-execute' | 'user'
}

/** A strategy that maps runtime regions 1:1 in a table of its own, but for what it does wrong. */
export function strategyWith(...gaps: readonly Gap[]): StrategyDefinition {
  const text = gaps.map(({ type, as }) => `${TYPE_NAMES.get(type)} ${as}`).join(', ')
  return {
    name: `gap (${text})`,
    title: '1:1, with a gap',
    mode: 'physical',
    sources: ['this judge'],
    create: () => {
      let tables: PageTableBuilder | undefined
      return {
        setup: (kernel) => {
          tables = mapWithGaps(kernel, gaps)
        },
        enter: ({ cpu }) => {
          cpu.interruptFlag = false
          cpu.writeCr3(tables!.root)
        },
        leave: ({ cpu, before }) => {
          cpu.writeCr3(before.cr3)
          cpu.interruptFlag = before.interruptFlag
        },
      }
    },
  }
}

const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [MemoryType.RuntimeServicesCode, 'code'],
  [MemoryType.RuntimeServicesData, 'data'],
  [MemoryType.MemoryMappedIO, 'flash'],
])

function mapWithGaps(kernel: Kernel, gaps: readonly Gap[]): PageTableBuilder {
  const tables = kernel.newPageTable('with gaps')
  for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
    const as = gaps.find(({ type }) => type === region.type)?.as
    if (as !== 'absent') mapRegion(tables, region, as)
  }
  kernel.tables.copyRootEntries(tables, 256, 512)
  return tables
}

function mapRegion(
  tables: PageTableBuilder,
  region: MemoryDescriptor,
  as: Exclude<Gap['as'], 'absent'> | undefined,
): void {
  const start = region.physicalStart
  tables.mapRange(virt(start), phys(start), descriptorEnd(region) - start, {
    writable: as !== 'read-only',
    executable: as !== 'no-execute',
    user: as === 'user',
  })
}
