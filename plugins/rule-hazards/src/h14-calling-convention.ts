import { FCW_AT_INIT, formatAddress, MXCSR_AT_RESET, PAGE_SIZE } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import type { RuntimeCall } from '@trapdoor/kernel'

/** Bytes of stack that firmware may count on. */
const STACK_BYTES = 4096
/** CR0.EM and CR0.TS: x87 and SSE instructions fault. */
const NO_FLOATING_POINT = 0x4 | 0x8
/** RFLAGS.DF. */
const DIRECTION = 0x400
/** Exceptions that MXCSR has noted, which may be whatever they are. */
const MXCSR_STICKY = 0x3f
/** XMM6, and words of a register. */
const FIRST_KEPT = 6
const XMM_WORDS = 4

/** The state in which the specification lets firmware assume that it is called, and what it may not leave behind. */
export const h14CallingConvention: Rule = {
  id: 'H14',
  title: 'The calling convention of runtime services was not kept',
  severity: 'error',
  advice:
    'align RSP to 16 bytes, leave 4 KiB of stack, clear CR0.EM, CR0.TS and RFLAGS.DF, load FCW and MXCSR, and keep the floating-point state of the process (kernel_fpu_begin())',
  sources: ['UEFI 2.10, 2.3.4.1 "Handoff State" and 2.3.4.2 "Detailed Calling Conventions"'],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.callEntered.tap('H14', (call) => {
      const wrong = wrongAtEntry(call)
      if (wrong === undefined) return
      report(call.kernel, {
        message: `${call.service} is called with ${wrong}`,
        explanation:
          'Firmware is compiled code: it stores aligned SSE registers on the stack, uses 4 KiB of it without asking, and expects x87 and SSE instructions to work.',
        call,
        actor: 'kernel',
      })
    })
    hooks.callLeft.tap('H14', (call) => {
      // Before there are processes there is no state of theirs.
      if (call.kernel.phase !== 'running') return
      const changed = changedAtExit(call)
      if (changed === undefined) return
      report(call.kernel, {
        message: `after ${call.service} CPU ${call.cpu.id} has ${changed}`,
        explanation:
          'Firmware has changed floating-point state, and the kernel has not kept that of the process that was running: its next floating-point results are others.',
        outcome: 'corrupt',
        call,
      })
    })
  },
}

/** What of the floating-point state is not as it was; of the vector registers those that the callee has to keep, XMM6 to XMM15. */
function changedAtExit({ cpu, before }: RuntimeCall): string | undefined {
  if (cpu.mxcsr !== before.mxcsr) {
    return `MXCSR 0x${cpu.mxcsr.toString(16)}, which was 0x${before.mxcsr.toString(16)}`
  }
  const was = before.floatingPoint.xmm
  const word = cpu.floatingPoint.xmm.findIndex(
    (value, index) => index >= FIRST_KEPT * XMM_WORDS && value !== was[index],
  )
  return word === -1
    ? undefined
    : `another value in XMM${Math.floor(word / XMM_WORDS)}, which is the caller’s`
}

function wrongAtEntry({ cpu, kernel }: RuntimeCall): string | undefined {
  // IA-32 has no rule for ESP (UEFI 2.10, 2.3.2).
  const hasAlignedStack = kernel.requireEfi.info.architecture.naturalBytes === 8
  if (hasAlignedStack && cpu.rsp % 16n !== 0n)
    return `RSP at ${formatAddress(cpu.rsp)}, which is not a multiple of 16`
  if ((cpu.cr0 & NO_FLOATING_POINT) !== 0) return 'CR0.EM or CR0.TS set'
  if ((cpu.rflags & DIRECTION) !== 0) return 'RFLAGS.DF set'
  const { controlWord } = cpu.floatingPoint
  if (controlWord !== FCW_AT_INIT) return `FCW 0x${controlWord.toString(16)} instead of 0x37f`
  if ((cpu.mxcsr & ~MXCSR_STICKY) !== MXCSR_AT_RESET) {
    return `MXCSR 0x${cpu.mxcsr.toString(16)} instead of 0x1f80`
  }
  for (let below = 8; below <= STACK_BYTES; below += PAGE_SIZE - 8) {
    const address = cpu.rsp - BigInt(below)
    if (cpu.lookUp(address)?.writable !== true) {
      return `less than ${STACK_BYTES} bytes of stack: ${formatAddress(address)} cannot be written to`
    }
  }
  return undefined
}
