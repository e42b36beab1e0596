import type { Rule } from '@trapdoor/harness'
import { KernelPanic } from '@trapdoor/kernel'

/** Page tables for the firmware need memory, and a kernel may have little. */
export const h03TableMemory: Rule = {
  id: 'H3',
  title: 'No memory for the firmware’s page tables',
  severity: 'error',
  advice:
    'map runtime regions alone, or with large pages; without memory for tables go without EFI runtime services rather than panic',
  sources: [
    'Huang Ying, reply to "EFI: run EFI in physical mode", LKML, August 2010',
    'RHEL 6 kernel, arch/x86/kernel/efi_64.c: fill_pud(), fill_pmd(), fill_pte() handle no failure',
  ],
  watch: ({ diagnose }) => {
    diagnose(({ error, kernel }) => {
      if (!(error instanceof KernelPanic) || kernel?.phase !== 'efi') return undefined
      if (!/^Out of memory: .* page tables /.test(error.message)) return undefined
      const mebibytes = Math.round((kernel.tablePages * 4096) / 2 ** 20)
      return {
        message: `${kernel.name} runs out of memory while it builds the firmware’s page tables`,
        explanation: `The kernel has ${mebibytes} MiB of page tables and no page left. With pages of 4 KiB, 8 GiB of memory take 16 MiB of tables; a crash kernel has only what was reserved for it, and must map the whole machine all the same: ${error.message}.`,
      }
    })
  },
}
