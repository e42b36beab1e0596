import { type Cpu, PAGE_SIZE, PAGE_SIZE_2M } from '@trapdoor/core'
import { MemoryType } from '@trapdoor/uefi'
import type { Kernel } from '../../kernel.ts'
import { endOfRam } from '../../memory/e820.ts'
import type { CallPath, RuntimeCall } from '../runtime-call.ts'

/**
 * efi_call_phys_prelog() and _epilog() of 2.6.35 (arch/x86/kernel/efi_64.c): runtime code becomes executable in the direct map, and `count` PML4 entries of
 * `swapper_pg_dir`, the first alone in 2.6.35, are borrowed from the direct map, so that as many times 512 GiB are an alias of it.
 */
export class PgdSwap implements CallPath {
  readonly #kernel: Kernel
  readonly #count: number
  #savedEntries: readonly bigint[] = []
  #interruptFlag = false

  constructor(kernel: Kernel, count = 1) {
    this.#kernel = kernel
    this.#count = count
  }

  enter(call: RuntimeCall): void {
    setRuntimeCodeExecutable(this.#kernel, true)
    this.#interruptFlag = call.cpu.interruptFlag
    call.cpu.interruptFlag = false
    this.#savedEntries = aliasLowHalf(this.#kernel, call.cpu, this.#count)
  }

  leave(call: RuntimeCall): void {
    restoreLowHalf(this.#kernel, call.cpu, this.#savedEntries)
    call.cpu.interruptFlag = this.#interruptFlag
    setRuntimeCodeExecutable(this.#kernel, false)
  }
}

/** Root entries that an alias of all memory takes: DIV_ROUND_UP(max_pfn << PAGE_SHIFT, PGDIR_SIZE). */
export function rootEntriesOfRam({ e820, tables }: Kernel): number {
  return Math.ceil(endOfRam(e820) / Number(tables.bytesOfRootEntry))
}

/** The first `count` root entries of `swapper_pg_dir` become those of the direct map, and every translation of `cpu` goes. Returns what they were. */
export function aliasLowHalf({ tables }: Kernel, cpu: Cpu, count: number): bigint[] {
  const { swapper } = tables
  const directMap = tables.rootIndex(tables.directMapAddress(0))
  const saved = Array.from({ length: count }, (_, index) => swapper.rootEntry(index))
  for (let index = 0; index < count; index++) {
    swapper.setRootEntry(index, swapper.rootEntry(directMap + index))
  }
  tables.flushLocal(cpu)
  return saved
}

/** Undoes {@link aliasLowHalf}. */
export function restoreLowHalf({ tables }: Kernel, cpu: Cpu, saved: readonly bigint[]): void {
  for (const [index, entry] of saved.entries()) tables.swapper.setRootEntry(index, entry)
  tables.flushLocal(cpu)
}

/** early_runtime_code_mapping_set_exec(), later early_code_mapping_set_exec(): whole 2 MiB pages around each region of code. */
export function setRuntimeCodeExecutable(kernel: Kernel, executable: boolean): void {
  const { tables, requireEfi: efi, strategy } = kernel
  const types = strategy?.instance.earlyExecutableTypes ?? [MemoryType.RuntimeServicesCode]
  for (const descriptor of efi.memoryMap) {
    if (!types.includes(descriptor.type)) continue
    const start = Math.floor(descriptor.physicalStart / PAGE_SIZE_2M) * PAGE_SIZE_2M
    const end = descriptor.physicalStart + descriptor.numberOfPages * PAGE_SIZE
    const bytes = Math.ceil((end - start) / PAGE_SIZE_2M) * PAGE_SIZE_2M
    tables.setMemoryExecutable(tables.directMapAddress(start), bytes, executable)
  }
}
