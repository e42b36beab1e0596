import {
  aliasLowHalf,
  callersLock,
  isServiceOf2635,
  type Kernel,
  type KernelVariable,
  type PageTableStrategy,
  restoreLowHalf,
  restoreXmm,
  rootEntriesOfRam,
  setRuntimeCodeExecutable,
  type StrategyDefinition,
} from '@trapdoor/kernel'

/** What efi_64.c keeps in static variables, one for all CPUs: `save_pgd`, `efi_flags`, and the CR3 of whoever calls. */
interface Saved {
  readonly entries: readonly KernelVariable[]
  readonly flag: KernelVariable
  readonly cr3: KernelVariable
}

/** P0 for ever: each call borrows root entries of `swapper_pg_dir`, as those before efi_enter_virtual_mode() do. */
function create(options: Readonly<Record<string, string>>): PageTableStrategy {
  let saved: Saved | undefined
  return {
    lockOf: (service) => callersLock(service, 'efivars_lock'),
    offers: (_, service) => isServiceOf2635(service),
    setup: (kernel: Kernel) => {
      const count = options['entries'] === 'all' ? rootEntriesOfRam(kernel) : 1
      const variable = (): KernelVariable => kernel.variable({ perCpu: false })
      saved = {
        entries: Array.from({ length: count }, variable),
        flag: variable(),
        cr3: variable(),
      }
    },
    /** efi_call_phys_prelog(), from a process: the entries are those of init_mm, which has to be loaded. */
    enter: ({ cpu, kernel }) => {
      const { entries, flag, cr3 } = saved!
      setRuntimeCodeExecutable(kernel, true)
      flag.write(cpu, cpu.interruptFlag ? 1n : 0n)
      cpu.interruptFlag = false
      cr3.write(cpu, BigInt(cpu.cr3))
      cpu.writeCr3(kernel.tables.swapper.root)
      for (const [index, entry] of aliasLowHalf(kernel, cpu, entries.length).entries()) {
        entries[index]!.write(cpu, entry)
      }
    },
    /** efi_call_phys_epilog(). */
    leave: (call) => {
      const { cpu, kernel } = call
      const { entries, flag, cr3 } = saved!
      restoreXmm(call)
      restoreLowHalf(
        kernel,
        cpu,
        entries.map((entry) => entry.read(cpu)),
      )
      cpu.writeCr3(Number(cr3.read(cpu)))
      cpu.interruptFlag = flag.read(cpu) !== 0n
      setRuntimeCodeExecutable(kernel, false)
    },
  }
}

/** P0: the early physical mode of 2.6.35, kept for all calls. Two CPUs share one saved entry, and one `swapper_pg_dir`. */
export const earlyPhysical: StrategyDefinition = {
  name: 'early-physical',
  title:
    'P0: firmware stays physical; each call borrows the direct map’s root entries for the low half (the early calls of Linux up to 5.8)',
  mode: 'physical',
  rewindable: true,
  sources: [
    'Linux 2.6.35 arch/x86/kernel/efi_64.c: efi_call_phys_prelog(), efi_call_phys_epilog()',
    'Linux 3.4.y arch/x86/platform/efi/efi_64.c: efi_call_phys_prelog() with n_pgds entries, unlike 3.4 itself',
  ],
  options: {
    entries: {
      title: 'first: entry 0, the low 512 GiB (2.6.35); all: as many as there is memory (3.0.x)',
      values: ['first', 'all'],
      default: 'first',
    },
  },
  create,
}
