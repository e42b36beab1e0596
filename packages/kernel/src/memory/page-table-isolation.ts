import type { CpuFeatures, PageTableBuilder } from '@trapdoor/core'
import type { Kernel } from '../kernel.ts'
import { isLinux } from '../linux-version.ts'

const NX = 1n << 63n
const PRESENT = 1n

/** Whether page tables of processes are isolated from the kernel's (pti_check_boottime_disable(), arch/x86/mm/pti.c, Linux 4.15 and later). */
export function isPageTableIsolated(kernel: Kernel): boolean {
  if (!isLinux(kernel, '4.15')) return false
  const { pti } = kernel.commandLine
  return pti === 'auto' ? hasMeltdown(kernel.machine.features) : pti === 'on'
}

/**
 * __pti_set_user_pgtbl() (arch/x86/mm/pti.c): in the tables that the kernel runs on, nothing of a process's half is executable. On the tables for user mode, which firmware never
 * sees, it is.
 */
export function poisonUserEntries(tables: PageTableBuilder, entries: number): void {
  for (let index = 0; index < entries; index++) {
    const entry = tables.rootEntry(index)
    if ((entry & PRESENT) !== 0n) tables.setRootEntry(index, entry | NX)
  }
}

/**
 * X86_BUG_CPU_MELTDOWN (cpu_set_bug_bits(), arch/x86/kernel/cpu/common.c): processors of Intel's without ARCH_CAP_RDCL_NO. All of those that know five levels of paging or track
 * indirect branches have that bit.
 */
function hasMeltdown({ vendor, la57, ibt }: CpuFeatures): boolean {
  return vendor === 'intel' && !la57 && !ibt
}
