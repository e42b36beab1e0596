import { Efer } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

/** 64-bit firmware is called in 64-bit mode, with a code segment that says so. */
export const h20Segments: Rule = {
  id: 'H20',
  title: 'Firmware is entered in a mode that is not its own',
  severity: 'error',
  advice:
    'enter 64-bit firmware from a segment with CS.L set; go through a thunk for firmware of the other width',
  sources: [
    'UEFI 2.10, 2.3.4 "x64 Platforms": long mode, flat selectors',
    'Linux 3.15 arch/x86/platform/efi/efi_thunk_64.S',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.callEntered.tap('H20', (call) => {
      const { cpu, kernel, service } = call
      if (cpu.codeSegmentLong && (cpu.efer & Efer.LMA) !== 0) return
      report(kernel, {
        message: `${service} is called in ${(cpu.efer & Efer.LMA) === 0 ? 'legacy' : 'compatibility'} mode`,
        explanation:
          'Its instructions mean something else there: REX prefixes are INC and DEC, pointers have 32 bits.',
        outcome: 'corrupt',
        call,
        actor: 'kernel',
      })
    })
  },
}
