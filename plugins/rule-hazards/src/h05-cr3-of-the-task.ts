import { formatAddress } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import type { RuntimeCall } from '@trapdoor/kernel'

/** After a call a CPU runs on the tables of the task that is current then, which need not be the one that made the call. */
export const h05Cr3OfTheTask: Rule = {
  id: 'H5',
  title: 'A call ended on tables that are not the current task’s',
  severity: 'error',
  advice:
    'load the current task’s CR3, or keep the task from being switched while a saved one is due back',
  sources: [
    'H. Peter Anvin, reply to "EFI: run EFI in physical mode", LKML, August 2010: "Restore cr3 from the local task structure"',
    'Linux 4.17 arch/x86/platform/efi/efi_64.c: efi_switch_mm()',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    // A call that began on the wrong tables is another matter, H1.
    const beganRight = new WeakSet<RuntimeCall>()
    hooks.callEntered.tap('H5', (call) => {
      const task = call.kernel.tasks[call.cpu.id]
      if (task !== undefined && call.before.cr3 === task.tables.root) beganRight.add(call)
    })
    hooks.callLeft.tap('H5', (call) => {
      const { kernel, cpu, before } = call
      const task = kernel.tasks[cpu.id]
      if (task === undefined || !beganRight.has(call)) return
      if (cpu.cr3 !== before.cr3 || cpu.cr3 === task.tables.root) return
      report(kernel, {
        message: `after ${call.service} CPU ${cpu.id} runs on ${formatAddress(cpu.cr3)}, and the current task’s tables are at ${formatAddress(task.tables.root)}`,
        explanation: `CR3 came back as it was before the call. Meanwhile another task has become current on this CPU, and now reads and writes the memory of the one before.`,
        outcome: 'corrupt',
        call,
        actor: 'kernel',
      })
    })
  },
}
