import {
  type Inspection,
  inspectAddress,
  type MachineEvent,
  type PageTableBuilder,
  phys,
  virt,
} from '@trapdoor/core'
import { descriptorEnd, isRuntime, type MemoryDescriptor } from '@trapdoor/uefi'
import {
  type AddressSpaceLayout,
  bootKernel,
  createKernelHooks,
  efiIoremap,
  type Kernel,
  type KernelHooks,
  type KernelProfile,
  LAYOUT_2_6_35,
  loadKernel,
  type PageTableStrategy,
  type StrategyDefinition,
} from '../src/index.ts'
import { type SmallMachine, smallMachine, type SmallMachineOptions } from './small-machine.ts'

/** A strategy of the test's own. */
export function strategyOf(
  mode: StrategyDefinition['mode'],
  create: () => PageTableStrategy,
): StrategyDefinition {
  return { name: `test-${mode}`, title: 'what a test needs', mode, sources: ['this test'], create }
}

/** Runtime regions 1:1 in a table of their own, loaded around each call. */
export const flat: StrategyDefinition = strategyOf('physical', () => {
  let table: PageTableBuilder | undefined
  return {
    setup: (kernel) => {
      table = kernel.newPageTable('flat')
      for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
        const start = region.physicalStart
        table.mapRange(virt(start), phys(start), descriptorEnd(region) - start, {
          executable: true,
        })
      }
      kernel.tables.copyRootEntries(table, 256, 512)
    },
    enter: ({ cpu }) => {
      cpu.interruptFlag = false
      cpu.writeCr3(table!.root)
    },
    leave: ({ cpu, before }) => {
      cpu.writeCr3(before.cr3)
      cpu.interruptFlag = before.interruptFlag
    },
  }
})

/** The firmware's map with runtime regions where efi_ioremap() puts them. */
export function ioremapped(kernel: Kernel): MemoryDescriptor[] {
  return kernel.requireEfi.memoryMap.map((each) =>
    isRuntime(each) ? { ...each, virtualStart: efiIoremap(kernel, each) } : each,
  )
}

/** Runtime regions in the direct map and vmalloc space, told to SetVirtualAddressMap. */
export const converted: StrategyDefinition = strategyOf('virtual', () => ({
  virtualMap: ioremapped,
}))

export interface Booted extends SmallMachine {
  readonly kernel: Kernel
}

export interface BootChoice extends SmallMachineOptions {
  readonly commandLine?: string
  readonly strategies?: readonly StrategyDefinition[]
  readonly layout?: AddressSpaceLayout
  /** The kernel's version of Linux; by default it is none, which is taken for 2.6.35. */
  readonly linux?: string
  readonly hooks?: KernelHooks
}

export function profileOf(choice: BootChoice): KernelProfile {
  return {
    layout: choice.layout ?? LAYOUT_2_6_35,
    ...(choice.linux === undefined ? {} : { linux: choice.linux }),
    strategies: (choice.strategies ?? [flat]).map((definition) => ({ definition })),
  }
}

/** Boots a kernel on a small machine that is there already. */
export function bootOn(small: SmallMachine, choice: BootChoice = {}): Booted {
  const kernel = bootKernel(loadKernel(small, choice.commandLine ?? ''), {
    name: 'first kernel',
    profile: profileOf(choice),
    hooks: choice.hooks ?? createKernelHooks(),
  })
  return { ...small, kernel }
}

export function boot(choice: BootChoice = {}): Booted {
  return bootOn(smallMachine(choice), choice)
}

/** What `swapper_pg_dir` says of an address. */
export function inSwapper(kernel: Kernel, address: bigint): Inspection {
  return inspectAddress(kernel.bootCpu.translationContext(kernel.tables.swapper.root), address)
}

/** What was printed, by whom ever, in order. */
export function messages(events: readonly MachineEvent[], source: 'kernel' | 'loader'): string[] {
  return events.flatMap((event) =>
    event.kind === 'message' && event.source === source ? [event.text] : [],
  )
}
