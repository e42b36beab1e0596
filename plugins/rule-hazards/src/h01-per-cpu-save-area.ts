import { formatAddress } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

/** What a CPU had before a call it must have after it, whatever other CPUs did meanwhile. */
export const h01PerCpuSaveArea: Rule = {
  id: 'H1',
  title: 'A CPU came back from a call with another CPU’s state',
  severity: 'error',
  advice: 'keep CR3 and flags per CPU, or on the stack',
  sources: [
    'Huang Ying, reply to "EFI: run EFI in physical mode", LKML, August 2010',
    'Linux 2.6.35 arch/x86/kernel/efi_32.c: efi_rt_eflags, get_cpu_gdt_table(0)',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.callLeft.tap('H1', (call) => {
      const { cpu, before, kernel } = call
      if (cpu.cr3 !== before.cr3) {
        const owner = kernel.roots.find(({ root }) => root === cpu.cr3)
        const own = kernel.roots.find(({ root }) => root === before.cr3)
        report(kernel, {
          message: `after ${call.service} CPU ${cpu.id} runs on ${owner?.name ?? formatAddress(cpu.cr3)} instead of ${own?.name ?? formatAddress(before.cr3)}`,
          explanation: `CPU ${cpu.id} entered the call with CR3 ${formatAddress(before.cr3)} and left it with ${formatAddress(cpu.cr3)}. Another CPU entered a call meanwhile and saved its own CR3 in the same place. The process on CPU ${cpu.id} now reads and writes another process’s memory.`,
          outcome: 'corrupt',
          call,
          actor: 'kernel',
        })
      } else if (cpu.interruptFlag !== before.interruptFlag) {
        report(kernel, {
          message: `after ${call.service} CPU ${cpu.id} has interrupts ${cpu.interruptFlag ? 'on' : 'off'}, which were ${before.interruptFlag ? 'on' : 'off'} before`,
          explanation: 'The saved RFLAGS.IF that came back is not the one that this CPU had.',
          outcome: cpu.interruptFlag ? 'corrupt' : 'hang',
          call,
          actor: 'kernel',
        })
      } else if (cpu.gdtr.base !== before.gdtr.base) {
        report(kernel, {
          message: `after ${call.service} CPU ${cpu.id} has its GDT at ${formatAddress(cpu.gdtr.base)} instead of ${formatAddress(before.gdtr.base)}`,
          explanation:
            'The GDT has the segments of a CPU: its TSS, the thread’s, on i386 the one by which it finds its own variables. The next time that it enters the kernel it loads them from another CPU’s.',
          outcome: 'corrupt',
          call,
          actor: 'kernel',
        })
      }
    })
  },
}
