import { PAGE_SIZE_1G, PAGE_SIZE_2M, type PageTableBuilder, phys, virt } from '@trapdoor/core'
import type {
  Kernel,
  KernelVariable,
  PageTableStrategy,
  StrategyDefinition,
} from '@trapdoor/kernel'
import {
  descriptorEnd,
  isRuntime,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
} from '@trapdoor/uefi'

const FIRST_MEGABYTE = 0x10_0000

/** Types that are memory, whoever has it. */
const MEMORY_TYPES: ReadonlySet<number> = new Set([
  MemoryType.LoaderCode,
  MemoryType.LoaderData,
  MemoryType.BootServicesCode,
  MemoryType.BootServicesData,
  MemoryType.RuntimeServicesCode,
  MemoryType.RuntimeServicesData,
  MemoryType.ConventionalMemory,
  MemoryType.ACPIReclaimMemory,
  MemoryType.ACPIMemoryNVS,
])

/** Bytes with one cacheability; `end` is exclusive. */
interface IdentityRange {
  readonly start: number
  readonly end: number
  readonly cacheDisable: boolean
}

/** All memory and all runtime regions of the map, page 0 and the rest of the first megabyte among them, neighbours merged. */
function identityRanges(map: readonly MemoryDescriptor[]): IdentityRange[] {
  const ranges = map
    .filter((descriptor) => MEMORY_TYPES.has(descriptor.type) || isRuntime(descriptor))
    .map((descriptor) => ({
      start: descriptor.physicalStart,
      end: descriptorEnd(descriptor),
      cacheDisable: (descriptor.attribute & MemoryAttribute.WB) === 0n,
    }))
  const merged: IdentityRange[] = [{ start: 0, end: FIRST_MEGABYTE, cacheDisable: false }]
  for (const range of ranges.toSorted((a, b) => a.start - b.start)) {
    const last = merged.at(-1)!
    if (range.end <= last.end) continue
    if (range.start <= last.end && range.cacheDisable === last.cacheDisable) {
      merged[merged.length - 1] = { ...last, end: range.end }
    } else {
      merged.push({ ...range, start: Math.max(range.start, last.end) })
    }
  }
  return merged
}

/** The one table for whoever needs an identity map: everything executable. */
function buildIdentityMap(kernel: Kernel, identity: PageTableBuilder): void {
  const largestPage = kernel.machine.features.pages1G ? PAGE_SIZE_1G : PAGE_SIZE_2M
  for (const { start, end, cacheDisable } of identityRanges(kernel.requireEfi.memoryMap)) {
    const flags = { executable: true, cacheDisable, largestPage }
    identity.mapRange(virt(start), phys(start), end - start, flags)
  }
  kernel.tables.copyKernelHalf(identity)
  kernel.identityMap = identity
}

/** No page may be mapped cached here and uncached there: the direct map follows. */
function alignDirectMap({ tables, requireEfi: efi }: Kernel): void {
  for (const { start, end, cacheDisable } of identityRanges(efi.memoryMap)) {
    if (cacheDisable) tables.setMemoryUncached(tables.directMapAddress(start), end - start)
  }
}

/** What calls need: the root, and where RFLAGS.IF is kept. */
interface Switching {
  readonly identity: PageTableBuilder
  readonly savedFlag: KernelVariable
}

/** What both shapes have around a call. */
function switching(by: () => Switching): PageTableStrategy {
  return {
    enter: ({ cpu }) => {
      const { identity, savedFlag } = by()
      savedFlag.write(cpu, cpu.interruptFlag ? 1n : 0n)
      cpu.interruptFlag = false
      cpu.writeCr3(identity.root)
    },
    // "Restore cr3 from the local task structure as soon as is reasonable": nothing has to be saved.
    leave: ({ cpu, kernel }) => {
      cpu.writeCr3(kernel.tasks[cpu.id]?.tables.root ?? kernel.tables.swapper.root)
      cpu.interruptFlag = by().savedFlag.read(cpu) !== 0n
    },
  }
}

/** The root is a page of the image, and is filled when the page allocator is up. */
function staticShape(): PageTableStrategy {
  let by: Switching | undefined
  return {
    ...switching(() => by!),
    setup: (kernel) => {
      by = {
        identity: kernel.staticPageTable('identity_pgd'),
        savedFlag: kernel.variable({ perCpu: true }),
      }
      buildIdentityMap(kernel, by.identity)
      alignDirectMap(kernel)
    },
  }
}

/** All of it comes from the early allocator, so that calls before the page allocator is up go the same way as all later ones. */
function earlyShape(): PageTableStrategy {
  let by: Switching | undefined
  return {
    ...switching(() => by!),
    setupEarly: (kernel) => {
      by = {
        identity: kernel.newPageTable('identity_pgd'),
        savedFlag: kernel.variable({ perCpu: true }),
      }
      buildIdentityMap(kernel, by.identity)
    },
    setup: (kernel) => {
      // What vmalloc space and modules have got since then.
      kernel.tables.copyKernelHalf(by!.identity)
      alignDirectMap(kernel)
    },
  }
}

/**
 * The review's counter-proposal of 2010 to `efi_pgd`: one 1:1 table for all who need one (EFI, kexec, the trampoline, reboot), in the two shapes that the thread discussed. No kernel was released with it;
 * what shares the table is Linux 2.6.37's initial_page_table.
 */
export const globalIdentityMap: StrategyDefinition = {
  name: 'global-identity-map',
  title: 'firmware stays physical; one shared 1:1 table of all memory, entered only around calls',
  mode: 'physical',
  rewindable: true,
  sources: [
    'H. Peter Anvin, Eric W. Biederman, replies to "EFI: run EFI in physical mode", LKML, August 2010',
    'Linux 2.6.37 arch/x86/kernel/head_32.S: initial_page_table',
  ],
  options: {
    allocator: {
      title:
        'static: the root is a page of the image; early: all from the early allocator, for early calls too',
      values: ['static', 'early'],
      default: 'static',
    },
  },
  create: (options) => (options['allocator'] === 'early' ? earlyShape() : staticShape()),
}
