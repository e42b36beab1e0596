import type { Rule } from '@trapdoor/harness'
import { OutOfMemory } from '@trapdoor/kernel'

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
  rewindable: true,
  watch: ({ diagnose }) => {
    diagnose(({ error, kernel }) => {
      if (!(error instanceof OutOfMemory) || kernel?.phase !== 'efi') return undefined
      const mebibytes = Math.round((kernel.tablePages * 4096) / 2 ** 20)
      return {
        message: `${kernel.name} runs out of memory while it sets up the runtime services`,
        explanation: `The kernel has ${mebibytes} MiB of page tables. With pages of 4 KiB, 8 GiB of memory take 16 MiB of tables; a crash kernel has only what was reserved for it, and must map the whole machine all the same. Nothing in the strategy has an answer to an allocation that fails: ${error.message}.`,
      }
    })
  },
}
