import { type PageTableBuilder, phys, virt } from '@trapdoor/core'
import {
  efiIoremap,
  type Kernel,
  type PageTableStrategy,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import {
  descriptorEnd,
  isRuntime,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
  pointerArguments,
} from '@trapdoor/uefi'

/** Physical address of a MiB of boot-services data. */
const BOOT_SERVICES_DATA = 0x830_0000

type Options = Readonly<Record<string, string>>

/** Page tables with one mistake at a time: each option is a way to get something wrong, and its default is right. */
export const oneToOne: StrategyDefinition = {
  name: 'one-to-one',
  title: 'runtime regions 1:1 in a table of their own',
  mode: 'physical',
  sources: ['this test'],
  options: {
    leaves: { title: 'how long translations live', values: ['local', 'global'], default: 'local' },
    saved: {
      title: 'where CR3 is kept, and whether IF comes back',
      values: ['here', 'shared', 'no-flag', 'flag-on'],
      default: 'here',
    },
    half: {
      title: 'the kernel’s half',
      values: ['whole', 'no-vmalloc', 'vmalloc-elsewhere'],
      default: 'whole',
    },
    page0: { title: 'page 0', values: ['unmapped', 'mapped'], default: 'unmapped' },
    uncached: {
      title: 'where uncached memory is uncached',
      values: ['everywhere', 'here', 'nowhere'],
      default: 'everywhere',
    },
    rights: {
      title: 'what can be executed and written',
      values: ['code-or-data', 'all', 'data'],
      default: 'code-or-data',
    },
    regions: { title: 'what is mapped', values: ['runtime', 'all'], default: 'runtime' },
    pointers: {
      title: 'what firmware gets of pointers: the same, or what __pa() makes of them',
      values: ['same', 'subtracted'],
      default: 'same',
    },
  },
  create: (options) => {
    let table: PageTableBuilder | undefined
    let shared = 0
    return {
      setup: (kernel) => {
        table = buildTable(kernel, options)
      },
      passedArguments: ({ args, kernel, service }) =>
        options['pointers'] === 'same'
          ? args
          : args.map((value, index) =>
              pointerArguments(service).includes(index)
                ? value - kernel.tables.layout.pageOffset
                : value,
            ),
      enter: ({ cpu }) => {
        shared = cpu.cr3
        cpu.interruptFlag = false
        cpu.writeCr3(table!.root)
      },
      leave: ({ cpu, before }) => {
        cpu.writeCr3(options['saved'] === 'shared' ? shared : before.cr3)
        cpu.interruptFlag =
          options['saved'] === 'flag-on' || (options['saved'] !== 'no-flag' && before.interruptFlag)
      },
    } satisfies PageTableStrategy
  },
}

function buildTable(kernel: Kernel, options: Options): PageTableBuilder {
  const table = kernel.newPageTable('one_to_one')
  for (const region of kernel.requireEfi.memoryMap) {
    if (options['regions'] === 'all' || isRuntime(region)) mapRegion(kernel, table, region, options)
  }
  if (options['page0'] === 'mapped') table.mapRange(virt(0), phys(0), 4096, { replace: true })
  kernel.tables.copyRootEntries(table, 256, 512)
  if (options['half'] !== 'whole') table.setRootEntry(402, 0n)
  if (options['half'] === 'vmalloc-elsewhere') {
    table.mapRange(virt(0xffff_c900_0000_0000n), phys(BOOT_SERVICES_DATA), 0x10_0000)
  }
  return table
}

function mapRegion(
  kernel: Kernel,
  table: PageTableBuilder,
  region: MemoryDescriptor,
  options: Options,
): void {
  const start = region.physicalStart
  const bytes = descriptorEnd(region) - start
  const isCode = region.type === MemoryType.RuntimeServicesCode
  const isUncached = (region.attribute & MemoryAttribute.WB) === 0n
  const { rights, uncached, leaves } = options
  table.mapRange(virt(start), phys(start), bytes, {
    executable: rights === 'all' || (isCode && rights === 'code-or-data'),
    writable: rights === 'all' || !isCode,
    cacheDisable: isUncached && uncached !== 'nowhere',
    global: leaves === 'global',
  })
  if (isUncached && uncached === 'everywhere') {
    kernel.tables.setMemoryUncached(kernel.tables.directMapAddress(start), bytes)
  }
}

/** SetVirtualAddressMap with addresses of the direct map. It is what `virtefi` selects. */
export const directMap: StrategyDefinition = {
  name: 'legacy-virtual',
  title: 'runtime regions in the direct map',
  mode: 'virtual',
  sources: ['this test'],
  create: () => ({
    virtualMap: (kernel) =>
      kernel.requireEfi.memoryMap.map((each) =>
        isRuntime(each)
          ? Object.assign({}, each, { virtualStart: efiIoremap(kernel, each) })
          : each,
      ),
  }),
}
