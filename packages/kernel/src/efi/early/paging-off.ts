import { type Cpu, Cr0, type PageTableBuilder, phys, type PhysicalAddress } from '@trapdoor/core'
import { pointerArguments } from '@trapdoor/uefi'
import type { Kernel, KernelVariable } from '../../kernel.ts'
import type { CallPath, RuntimeCall } from '../runtime-call.ts'

/** How the code that switches paging off is mapped at its physical address meanwhile. */
export interface LowAlias {
  enter(call: RuntimeCall): void
  leave(call: RuntimeCall): void
}

/** Where efi_call_phys() is in the kernel's text. */
const STUB_OFFSET = 0x3000

/**
 * efi_call_phys() of 2.6.35 for i386 (arch/x86/kernel/efi_32.c, efi_stub_32.S): interrupts off, the physical alias of the kernel mapped, the GDT at its physical address; then a jump into the
 * alias, CR0.PG cleared, ESP made physical, and the firmware called without paging. Pointers that it gets have to be physical (virt_to_phys()), which they are where they were in low
 * memory. IDT and TSS stay where they are: at addresses that are none without paging.
 */
export class PagingOff implements CallPath {
  readonly #kernel: Kernel
  readonly #alias: LowAlias
  readonly #perCpu: boolean
  /** efi_rt_eflags, or one for each CPU. */
  readonly #interruptFlag: KernelVariable

  /** With `perCpu` for calls of every CPU; without, what is kept is static, and the GDT is that of the first one, as efi_32.c has it for the time when there are no others. */
  constructor(
    kernel: Kernel,
    alias: LowAlias,
    { perCpu = false }: { readonly perCpu?: boolean } = {},
  ) {
    this.#kernel = kernel
    this.#alias = alias
    this.#perCpu = perCpu
    this.#interruptFlag = kernel.variable({ perCpu })
  }

  enter(call: RuntimeCall): void {
    const { cpu } = call
    this.#interruptFlag.write(cpu, cpu.interruptFlag ? 1n : 0n)
    cpu.interruptFlag = false
    this.#alias.enter(call)
    this.#loadGdt(cpu, (address) => BigInt(lowPhysical(this.#kernel, address)))
    // The function's address is passed on the stack, as it can be read no more where paging is off.
    call.resolveFunction()
    cpu.translate(this.#stub, 'execute')
    cpu.writeCr0(cpu.cr0 & ~Cr0.PG)
    cpu.rsp = BigInt(lowPhysical(this.#kernel, cpu.rsp))
  }

  leave(call: RuntimeCall): void {
    const { cpu } = call
    cpu.rsp = BigInt.asUintN(32, cpu.rsp + this.#kernel.tables.layout.pageOffset)
    cpu.writeCr0(cpu.cr0 | Cr0.PG)
    cpu.translate(this.#stub, 'execute')
    this.#loadGdt(cpu, (address) => address)
    this.#alias.leave(call)
    cpu.interruptFlag = this.#interruptFlag.read(cpu) !== 0n
  }

  /** virt_to_phys() of what points to low memory; SetVirtualAddressMap is passed a physical address as it is. */
  passedArguments({ service, args }: RuntimeCall): readonly bigint[] {
    if (service === 'SetVirtualAddressMap') return args
    const pointers = pointerArguments(service)
    return args.map((value, index) =>
      pointers.includes(index) && value !== 0n ? BigInt(lowPhysical(this.#kernel, value)) : value,
    )
  }

  /** efi_call_phys() at its physical address, where it jumps to itself. */
  get #stub(): bigint {
    return BigInt(this.#kernel.image.base + STUB_OFFSET)
  }

  /** get_cpu_gdt_table(0), or with the number of the CPU in place of 0. */
  #loadGdt(cpu: Cpu, place: (address: bigint) => bigint): void {
    const { base, limit } = this.#kernel.gdtOf(this.#perCpu ? cpu : this.#kernel.bootCpu)
    cpu.gdtr = { base: place(base), limit }
  }
}

/** __pa(): a subtraction, right for low memory alone. */
function lowPhysical({ tables }: Kernel, address: bigint): PhysicalAddress {
  return phys(Number(BigInt.asUintN(32, address - tables.layout.pageOffset)))
}

/**
 * The alias of 2.6.35: the first entries of `swapper_pg_dir` are those of PAGE_OFFSET for the time of a call, one with PAE (1 GiB), two without (8 MiB). Only who runs on
 * `swapper_pg_dir` sees them.
 */
export class SwapperAlias implements LowAlias {
  readonly #kernel: Kernel
  /** efi_bak_pg_dir_pointer. */
  readonly #saved: readonly KernelVariable[]

  constructor(kernel: Kernel) {
    this.#kernel = kernel
    const count = kernel.tables.layout.mode.entryBytes === 8 ? 1 : 2
    this.#saved = Array.from({ length: count }, () => kernel.variable({ perCpu: false }))
  }

  enter({ cpu }: RuntimeCall): void {
    const { tables } = this.#kernel
    const { swapper, kernelHalf } = tables
    for (const [index, saved] of this.#saved.entries()) {
      saved.write(cpu, swapper.rootEntry(index))
      swapper.setRootEntry(index, swapper.rootEntry(kernelHalf.first + index))
    }
    tables.flushAll()
  }

  leave({ cpu }: RuntimeCall): void {
    const { tables } = this.#kernel
    for (const [index, saved] of this.#saved.entries()) {
      tables.swapper.setRootEntry(index, saved.read(cpu))
    }
    tables.flushAll()
  }
}

/**
 * The alias of Linux 3.2 and later: `initial_page_table`, with which the kernel has booted, and which has low memory both at PAGE_OFFSET and at 0 (sync_initial_page_table(),
 * arch/x86/kernel/setup.c). It is loaded for the time of a call; what is loaded then is `swapper_pg_dir`, or with `task` what was loaded before.
 */
export class InitialPageTable implements LowAlias {
  readonly #kernel: Kernel
  readonly #table: PageTableBuilder
  readonly #after: 'swapper' | 'task'

  /** Takes the page that the table is in. */
  constructor(kernel: Kernel, after: 'swapper' | 'task') {
    this.#kernel = kernel
    this.#after = after
    this.#table = kernel.staticPageTable('initial_page_table')
  }

  /** sync_initial_page_table(), once the direct map is complete. */
  sync(): void {
    const { tables } = this.#kernel
    tables.copyKernelHalf(this.#table)
    const { first, end } = tables.kernelHalf
    for (let index = first; index < end && index - first < first; index++) {
      this.#table.setRootEntry(index - first, tables.swapper.rootEntry(index))
    }
  }

  enter({ cpu }: RuntimeCall): void {
    cpu.writeCr3(this.#table.root)
    this.#kernel.tables.flushAll()
  }

  leave({ cpu }: RuntimeCall): void {
    const { tables, tasks } = this.#kernel
    const task = this.#after === 'task' ? tasks[cpu.id]?.tables.root : undefined
    cpu.writeCr3(task ?? tables.swapper.root)
    tables.flushAll()
  }
}
