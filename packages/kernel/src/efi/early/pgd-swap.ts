import { type Cpu, FIVE_LEVEL, PAGE_SIZE, PAGE_SIZE_1G, PAGE_SIZE_2M } from '@trapdoor/core'
import { MemoryType } from '@trapdoor/uefi'
import type { Kernel } from '../../kernel.ts'
import { endOfRam } from '../../memory/e820.ts'
import type { CallPath, RuntimeCall } from '../runtime-call.ts'

const ENTRIES = 512
const ENTRY_BYTES = 8
const PRESENT = 1n
/** _PAGE_TABLE. */
const PAGE_TABLE = 0x67n
const ADDRESS = 0x000f_ffff_ffff_f000n

/** Who makes the low half an alias of the direct map: {@link aliasLowHalf} or {@link aliasLowHalfByTables}. */
export type Alias = (kernel: Kernel, cpu: Cpu, count: number) => bigint[]

/**
 * efi_call_phys_prelog() and _epilog() of 2.6.35 (arch/x86/kernel/efi_64.c): runtime code becomes executable in the direct map, and `count` PML4 entries of
 * `swapper_pg_dir`, the first alone in 2.6.35, are borrowed from the direct map, so that as many times 512 GiB are an alias of it.
 */
export class PgdSwap implements CallPath {
  readonly #kernel: Kernel
  readonly #count: number
  readonly #alias: Alias
  #savedEntries: readonly bigint[] = []
  #interruptFlag = false

  constructor(
    kernel: Kernel,
    { count = 1, alias = aliasLowHalf }: { readonly count?: number; readonly alias?: Alias } = {},
  ) {
    this.#kernel = kernel
    this.#count = count
    this.#alias = alias
  }

  enter(call: RuntimeCall): void {
    setRuntimeCodeExecutable(this.#kernel, true)
    this.#interruptFlag = call.cpu.interruptFlag
    call.cpu.interruptFlag = false
    this.#savedEntries = this.#alias(this.#kernel, call.cpu, this.#count)
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

/**
 * As {@link aliasLowHalf} since Linux 4.12 (efi_call_phys_prolog(), with KASLR): PAGE_OFFSET is a multiple of 1 GiB only, so that each
 * root entry gets tables of its own, which hold the direct map's page-directory-pointer entries. Nobody gives their pages back: efi_call_phys_epilog() looks for them below entries that it has
 * restored already. Throws OutOfMemory.
 */
export function aliasLowHalfByTables(kernel: Kernel, cpu: Cpu, count: number): bigint[] {
  const { machine, tables } = kernel
  const { memory } = machine
  const { swapper } = tables
  const end = endOfRam(kernel.e820)
  const newTable = (entryAt: (index: number) => bigint | undefined): bigint => {
    const frame = kernel.allocateTable()
    memory.clearFrame(frame)
    for (let index = 0; index < ENTRIES; index++) {
      const entry = entryAt(index)
      if (entry === undefined) break
      memory.write64(frame * PAGE_SIZE + index * ENTRY_BYTES, entry)
    }
    return BigInt(frame * PAGE_SIZE) | PAGE_TABLE
  }
  const pointersFrom = (start: number): bigint =>
    newTable((index) => {
      const physical = start + index * PAGE_SIZE_1G
      return physical > end ? undefined : pointerEntry(kernel, tables.directMapAddress(physical))
    })
  const saved = Array.from({ length: count }, (_, index) => swapper.rootEntry(index))
  for (let index = 0; index < count; index++) {
    const start = index * Number(tables.bytesOfRootEntry)
    const entry =
      tables.layout.mode === FIVE_LEVEL
        ? newTable((below) => pointersFrom(start + below * ENTRIES * PAGE_SIZE_1G))
        : pointersFrom(start)
    swapper.setRootEntry(index, entry)
  }
  tables.flushLocal(cpu)
  return saved
}

/** *pud_offset(): what `swapper_pg_dir` has for the gibibyte around an address; nothing where its tables end above. */
function pointerEntry({ machine: { memory }, tables }: Kernel, address: bigint): bigint {
  let entry = tables.swapper.rootEntry(tables.rootIndex(address))
  for (const { shift } of tables.layout.mode.levels.slice(1, -2)) {
    if ((entry & PRESENT) === 0n) return 0n
    const index = Number((address >> BigInt(shift)) & BigInt(ENTRIES - 1))
    entry = memory.read64(Number(entry & ADDRESS) + index * ENTRY_BYTES)
  }
  return entry
}

/** Undoes {@link aliasLowHalf}. */
export function restoreLowHalf({ tables }: Kernel, cpu: Cpu, saved: readonly bigint[]): void {
  for (const [index, entry] of saved.entries()) tables.swapper.setRootEntry(index, entry)
  tables.flushLocal(cpu)
}

/** early_runtime_code_mapping_set_exec(): whole 2 MiB pages around each region of code; from 3.0 on early_code_mapping_set_exec(), which takes the regions as they are (efi_set_executable()). */
export function setRuntimeCodeExecutable(kernel: Kernel, executable: boolean): void {
  const { tables, requireEfi: efi, strategy } = kernel
  const types = strategy?.instance.earlyExecutableTypes
  const granularity = types === undefined ? PAGE_SIZE_2M : PAGE_SIZE
  for (const descriptor of efi.memoryMap) {
    if (!(types ?? [MemoryType.RuntimeServicesCode]).includes(descriptor.type)) continue
    const start = Math.floor(descriptor.physicalStart / granularity) * granularity
    const end = descriptor.physicalStart + descriptor.numberOfPages * PAGE_SIZE
    const bytes = Math.ceil((end - start) / granularity) * granularity
    if (bytes > 0) tables.setMemoryExecutable(tables.directMapAddress(start), bytes, executable)
  }
}
