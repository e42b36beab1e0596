import { PAGE_SIZE, PAGE_SIZE_2M } from '@trapdoor/core'
import { MemoryType } from '@trapdoor/uefi'
import type { Kernel } from '../../kernel.ts'
import type { CallPath, RuntimeCall } from '../runtime-call.ts'

/**
 * efi_call_phys_prelog() and _epilog() of 2.6.35 (arch/x86/kernel/efi_64.c): runtime code becomes executable in the direct map, and PML4 entry 0 of
 * `swapper_pg_dir` is borrowed from the direct map, so that the low 512 GiB are an alias of it.
 */
export class PgdSwap implements CallPath {
  readonly #kernel: Kernel
  #savedEntry = 0n
  #interruptFlag = false

  constructor(kernel: Kernel) {
    this.#kernel = kernel
  }

  enter(call: RuntimeCall): void {
    const { tables } = this.#kernel
    this.#setExecutable(true)
    this.#interruptFlag = call.cpu.interruptFlag
    call.cpu.interruptFlag = false
    this.#savedEntry = tables.swapper.rootEntry(0)
    tables.swapper.setRootEntry(
      0,
      tables.swapper.rootEntry(tables.rootIndex(tables.directMapAddress(0))),
    )
    tables.flushAll()
  }

  leave(call: RuntimeCall): void {
    const { tables } = this.#kernel
    tables.swapper.setRootEntry(0, this.#savedEntry)
    tables.flushAll()
    call.cpu.interruptFlag = this.#interruptFlag
    this.#setExecutable(false)
  }

  /** early_runtime_code_mapping_set_exec(), later early_code_mapping_set_exec(): whole 2 MiB pages around each region of code. */
  #setExecutable(executable: boolean): void {
    const { tables, requireEfi: efi, strategy } = this.#kernel
    const types = strategy?.instance.earlyExecutableTypes ?? [MemoryType.RuntimeServicesCode]
    for (const descriptor of efi.memoryMap) {
      if (!types.includes(descriptor.type)) continue
      const start = Math.floor(descriptor.physicalStart / PAGE_SIZE_2M) * PAGE_SIZE_2M
      const end = descriptor.physicalStart + descriptor.numberOfPages * PAGE_SIZE
      const bytes = Math.ceil((end - start) / PAGE_SIZE_2M) * PAGE_SIZE_2M
      tables.setMemoryExecutable(tables.directMapAddress(start), bytes, executable)
    }
  }
}
