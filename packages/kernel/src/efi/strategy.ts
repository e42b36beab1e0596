import type { Cpu, Machine, PageFault } from '@trapdoor/core'
import {
  type Architecture,
  ARCHITECTURES,
  type MemoryDescriptor,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import type { Kernel } from '../kernel.ts'
import { type AddressSpaceLayout, kernelArchitecture, LAYOUT_2_6_35 } from '../memory/layout.ts'
import type { CallPath, RuntimeCall } from './runtime-call.ts'

/** What one kernel tells the next about a firmware that is in virtual mode already (setup_data of type SETUP_EFI, Linux 3.14). */
export interface EfiHandOver {
  /** Physical address of the vendor string, as it was before SetVirtualAddressMap. */
  readonly vendor: number
  /** Physical address of the runtime services table. */
  readonly runtime: number
  /** Physical address of the configuration table. */
  readonly configurationTable: number
  /** Physical address of the SMBIOS table, 0 where nobody noted it. */
  readonly smbios?: number
  /** The runtime regions with the virtual addresses that the firmware was given. */
  readonly memoryMap: readonly MemoryDescriptor[]
}

/**
 * How a kernel calls EFI runtime services: which page tables the firmware sees, and at which addresses. All methods are optional; without any, firmware is
 * called at its physical addresses on whatever page tables the current task has.
 */
export interface PageTableStrategy {
  /** Calls wait for one another (efi_runtime_lock, Linux 3.18 and later). */
  readonly serialised?: boolean
  /** The lock that calls of a service wait for, where not all wait for one. */
  lockOf?(service: RuntimeServiceName): string | undefined
  /** Whether a call of a service that finds its lock held is given up, where others wait (down_trylock()). */
  triesLock?(service: RuntimeServiceName): boolean
  /** The scheduler may take the CPU away inside a call, where interrupts are on. Default false: preemption is disabled, as kernel_fpu_begin() does and holding a spinlock does. */
  readonly preemptible?: boolean
  /** Whether GetNextVariableName is stopped where it gives a name twice (Linux 3.9 and later). */
  readonly detectsDuplicateNames?: boolean
  /** Types of memory whose regions the early physical mode makes executable, as since Linux 3.0; default runtime-services code alone, in pages of 2 MiB around it, as before. */
  readonly earlyExecutableTypes?: readonly number[] | undefined
  /** What must not be handed out, in setup_arch(): the map has been read, and nothing is allocated yet. */
  reserve?(kernel: Kernel): void
  /**
   * Builds what calls need with the early allocator, at the end of setup_arch(), before page attributes can be changed. Calls before {@link setup} are then made by
   * {@link enter} and {@link leave} too; without it they borrow entries of `swapper_pg_dir`, as 2.6.35 does.
   */
  setupEarly?(kernel: Kernel): void
  /** False for kernels that make no calls before {@link setup}. Default: they do, as 2.6.35 asked for the time. */
  readonly callsEarly?: false
  /** How calls are made before {@link setup}, and SetVirtualAddressMap after it; by default as 2.6.35 makes them. */
  earlyPath?(kernel: Kernel): CallPath
  /**
   * Builds what calls need, and may take firmware into virtual mode. It runs once in phase `efi`, after the page allocator is up and before any process runs.
   */
  setup?(kernel: Kernel): void
  /**
   * The map for SetVirtualAddressMap, which the kernel then calls in the early physical mode. Left out, firmware stays in physical mode for ever, but for what
   * {@link setup} does.
   */
  virtualMap?(kernel: Kernel): readonly MemoryDescriptor[]
  /** Whether {@link virtualMap} goes to firmware in memory of the kernel's own (`new_memmap`, Linux 3.0.x and later). Default: it is written over the firmware's map. */
  readonly copiesMap?: boolean
  /** What follows when the kernel has called SetVirtualAddressMap with {@link virtualMap}. */
  enteredVirtualMode?(kernel: Kernel): void
  /**
   * Where to call a service. By default: with {@link virtualMap} what the converted tables say now, read through `efi.systab`; without, what the physical
   * table said at boot.
   */
  functionAddress?(kernel: Kernel, cpu: Cpu, service: RuntimeServiceName): bigint
  /** What the firmware gets in place of a call's arguments, which hold the kernel's own addresses, as virt_to_phys() makes them. Default: the same. */
  passedArguments?(call: RuntimeCall): readonly bigint[]
  /** What the kernel's own wrapper returns where it does not get as far as the firmware; undefined where it calls. Asked before {@link enter}. */
  answer?(call: RuntimeCall): bigint | undefined
  /** Whether this kernel calls a service at all, which is EFI_UNSUPPORTED else. Default: it calls whatever it is asked for. */
  offers?(kernel: Kernel, service: RuntimeServiceName): boolean
  /** Memory was added, and its direct map is in `swapper_pg_dir`: a notifier of MEM_GOING_ONLINE (mm/memory_hotplug.c). */
  memoryGoingOnline?(kernel: Kernel): void
  /** What happens on this CPU before the firmware's first instruction. Interrupts are as the caller had them. */
  enter?(call: RuntimeCall): void
  /** What happens after its last. */
  leave?(call: RuntimeCall): void
  /** What the call returns in place of the firmware that a page fault has stopped; undefined where the fault kills the kernel. {@link leave} follows. */
  recover?(call: RuntimeCall, fault: PageFault): bigint | undefined
  /** What efi_init() takes a pointer in the EFI tables for, before it maps what is there. By default a physical address, whatever it is. */
  physicalAddress?(kernel: Kernel, pointer: bigint): bigint
  /** What kexec's purgatory does on `machine` between this kernel and the next. */
  purgatory?(kernel: Kernel, machine: Machine): void
  /** What the next kernel gets through kexec, beside the tables' addresses. */
  handOver?(kernel: Kernel): EfiHandOver | undefined
  /**
   * Instead of {@link setup} and {@link virtualMap} where the kernel before left a hand-over. Throws {@link StrategyRefusal} where it cannot be honoured.
   */
  takeOver?(kernel: Kernel, handOver: EfiHandOver): void
}

/** A strategy declines: the kernel boots on without EFI runtime services. The message says why. */
export class StrategyRefusal extends Error {
  override readonly name = 'StrategyRefusal'
}

/** An option of a strategy: the values that it may have. */
export interface StrategyOption {
  readonly title: string
  readonly values: readonly string[]
  readonly default: string
}

/** Protections of the CPU that firmware may not stand. */
export interface Hardening {
  /** Indirect-branch tracking (CONFIG_X86_KERNEL_IBT): on before the runtime services are set up, or after. */
  readonly ibt?: 'before-setup' | 'after-setup'
  /** Linear-address-space separation: on after the runtime services are set up, from a late_initcall. */
  readonly lass?: 'after-setup'
}

/** A strategy as a plugin offers it. */
export interface StrategyDefinition {
  /** Name on the command line, such as "private-efi-pgd". */
  readonly name: string
  readonly title: string
  /** `virtual` where SetVirtualAddressMap is called: what `virtefi` selects. `physical` otherwise. */
  readonly mode: 'virtual' | 'physical'
  /** What firmware has to be built for; default the same as the kernel (CONFIG_EFI_MIXED: ia32 for one of 64 bits). */
  readonly firmware?: Architecture['name']
  /** Names of strategies that kernels have beside this one, for the command line to choose. */
  readonly alternatives?: readonly string[]
  /** The word of `efi=` that chooses this strategy in a kernel that has another by default, such as `old_map`. */
  readonly chosenByEfi?: string
  /**
   * The versions of Linux that call EFI like this, as "6.1": the first, the first that no longer does, and the one that a kernel is taken for of which nothing else is known; left out, it is the
   * last of them.
   */
  readonly linux?: { readonly from: string; readonly before?: string; readonly as?: string }
  /** The address space of these kernels, which may depend on the options; default that of 2.6.35 on x86-64. It decides what the kernel is built for, too. */
  readonly layout?:
    | AddressSpaceLayout
    | ((options: Readonly<Record<string, string>>) => AddressSpaceLayout)
  /**
   * Kexec's loaders tell the next kernel nothing of EFI where there is no runtime map to hand over (setup_efi_state(), arch/x86/kernel/kexec-bzimage64.c, Linux 3.14 and
   * later). Default false: it gets what this one got.
   */
  readonly efiOnlyWithRuntimeMap?: boolean
  /** What these kernels switch on where the CPU has it, beside paging as it is: see {@link Hardening}. */
  readonly hardening?: Hardening
  /**
   * What a strategy of this kind knows is made while it is set up, and no more changed once the kernel runs: what changes is in the kernel's memory (`kernel.variable()`). Setting
   * up again, from the same state of the kernel, makes it all anew. Cases that begin alike then boot once, up to where they part. Default false: each boots on its own.
   */
  readonly rewindable?: boolean
  /** What it rests on: kernel versions and functions, mails, specifications. */
  readonly sources: readonly string[]
  readonly options?: Readonly<Record<string, StrategyOption>>
  /** A strategy for one kernel; its state lives in the closure, or better in the kernel's memory. `options` holds a value for each option. */
  create(options: Readonly<Record<string, string>>): PageTableStrategy
}

/** A strategy with its options chosen; those left out have their default. */
export interface StrategyChoice {
  readonly definition: StrategyDefinition
  readonly options?: Readonly<Record<string, string>>
}

/** The strategy that a choice stands for, with the defaults filled in. */
export function createStrategy(choice: StrategyChoice): PageTableStrategy {
  return choice.definition.create(optionsOf(choice))
}

/** The address space of the kernels that have a strategy. */
export function layoutOf(choice: StrategyChoice): AddressSpaceLayout {
  const { layout = LAYOUT_2_6_35 } = choice.definition
  return typeof layout === 'function' ? layout(optionsOf(choice)) : layout
}

/** What firmware has to be built for that a strategy calls. */
export function firmwareArchitectureOf(choice: StrategyChoice): Architecture {
  const { firmware } = choice.definition
  return firmware === undefined ? kernelArchitecture(layoutOf(choice)) : ARCHITECTURES[firmware]
}

/** A value for each option. */
function optionsOf({ definition, options }: StrategyChoice): Readonly<Record<string, string>> {
  const defaults = Object.entries(definition.options ?? {}).map(
    ([name, option]) => [name, option.default] as const,
  )
  return { ...Object.fromEntries(defaults), ...options }
}
