import { PAGE_SIZE_1G, PAGE_SIZE_2M, phys, type PageTableBuilder, virt } from '@trapdoor/core'
import {
  type Kernel,
  type KernelVariable,
  ramRanges,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import { descriptorEnd, isRuntime, MemoryAttribute } from '@trapdoor/uefi'

const FIRST_MEGABYTE = 0x10_0000

/** One table with all memory and all runtime regions 1:1 and executable, page 0 among them, for whoever needs an identity map. */
function buildIdentityMap(kernel: Kernel): PageTableBuilder {
  const { tables, machine } = kernel
  const identity = kernel.newPageTable('identity_pgd')
  const largestPage = machine.features.pages1G ? PAGE_SIZE_1G : PAGE_SIZE_2M
  const map = (start: number, end: number, cacheDisable: boolean): void => {
    identity.mapRange(virt(start), phys(start), end - start, {
      executable: true,
      cacheDisable,
      largestPage,
      replace: true,
    })
  }
  map(0, FIRST_MEGABYTE, false)
  for (const range of ramRanges(kernel.e820)) {
    if (range.end > FIRST_MEGABYTE) map(Math.max(range.start, FIRST_MEGABYTE), range.end, false)
  }
  for (const descriptor of kernel.requireEfi.memoryMap) {
    if (!isRuntime(descriptor)) continue
    const start = descriptor.physicalStart
    const end = descriptorEnd(descriptor)
    const uncached = (descriptor.attribute & MemoryAttribute.WB) === 0n
    map(start, end, uncached)
    // No page may be mapped cached here and uncached there.
    if (uncached) tables.setMemoryUncached(tables.directMapAddress(start), end - start)
  }
  tables.copyRootEntries(identity, 256, 512)
  return identity
}

export const globalIdentityMap: StrategyDefinition = {
  name: 'global-identity-map',
  title: 'firmware stays physical; one shared 1:1 table of all memory, entered only around calls',
  mode: 'physical',
  sources: [
    'H. Peter Anvin, Eric W. Biederman, replies to "EFI: run EFI in physical mode", LKML, August 2010',
    'Linux 2.6.37 arch/x86/kernel/head_32.S: initial_page_table',
  ],
  create: () => {
    let identity: PageTableBuilder | undefined
    let savedFlag: KernelVariable | undefined
    return {
      setup: (kernel) => {
        identity = buildIdentityMap(kernel)
        savedFlag = kernel.variable({ perCpu: true })
      },
      enter: ({ cpu }) => {
        savedFlag!.write(cpu, cpu.interruptFlag ? 1n : 0n)
        cpu.interruptFlag = false
        cpu.writeCr3(identity!.root)
      },
      // "Restore cr3 from the local task structure as soon as is reasonable": nothing has to be saved.
      leave: ({ cpu, kernel }) => {
        cpu.writeCr3(kernel.tasks[cpu.id]?.tables.root ?? kernel.tables.swapper.root)
        cpu.interruptFlag = savedFlag!.read(cpu) !== 0n
      },
    }
  },
}
