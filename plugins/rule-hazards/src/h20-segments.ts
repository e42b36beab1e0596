import { Efer } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

/** Firmware is called in the mode that it was built for: 64-bit mode, or a 32-bit segment of protected or compatibility mode. */
export const h20Segments: Rule = {
  id: 'H20',
  title: 'Firmware is entered in a mode that is not its own',
  severity: 'error',
  advice:
    'enter 64-bit firmware from a segment with CS.L set; go through a thunk for firmware of the other width',
  sources: [
    'UEFI 2.10, 2.3.4 "x64 Platforms": long mode, flat selectors',
    'UEFI 2.10, 2.3.2 "IA-32 Platforms": protected mode, flat selectors',
    'Linux 3.15 arch/x86/platform/efi/efi_thunk_64.S',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.callEntered.tap('H20', (call) => {
      const { cpu, kernel, service } = call
      const { name } = kernel.requireEfi.info.architecture
      const isLongMode = (cpu.efer & Efer.LMA) !== 0
      const is64Bit = isLongMode && cpu.codeSegmentLong
      if (is64Bit === (name === 'x64')) return
      const mode = is64Bit ? '64-bit' : isLongMode ? 'compatibility' : 'legacy'
      report(kernel, {
        message: `${service} is called in ${mode} mode`,
        explanation: `The firmware is built for ${name}, and its instructions mean something else there: what are REX prefixes in 64-bit mode are INC and DEC elsewhere, and pointers have another size.`,
        outcome: 'corrupt',
        call,
        actor: 'kernel',
      })
    })
  },
}
