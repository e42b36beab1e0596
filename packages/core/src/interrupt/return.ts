import { joinHalves } from '../halves.ts'
import type { Cpu } from '../cpu/cpu.ts'
import { Rflags } from '../cpu/rflags.ts'
import { Segment } from '../cpu/segment-register.ts'
import { CoreError } from '../error.ts'
import { is64BitMode, isIa32e, selectorFault } from '../segmentation/descriptor.ts'
import {
  enterCode,
  jumpInRealMode,
  returnStack,
  returnTarget,
} from '../segmentation/far-transfer.ts'
import { loadFlags } from '../segmentation/flags.ts'
import { dropInnerSegments, isRealMode } from '../segmentation/segment-load.ts'
import {
  currentStack,
  movedPointer,
  type OperandBytes,
  peekStack,
  setStackPointer,
} from '../segmentation/stack.ts'

/**
 * IRET, IRETD, IRETQ: pops RIP, CS and RFLAGS, and in 64-bit mode, or to an outer privilege level, RSP and SS (SDM Vol. 2, IRET). What the stack holds is checked as by a far return. A return to virtual-8086 mode, and one to
 * another task, are not modelled: CORE_NOT_MODELLED.
 */
export function interruptReturn(cpu: Cpu, operandBytes: OperandBytes): void {
  if (isRealMode(cpu)) {
    returnInRealMode(cpu, operandBytes)
    return
  }
  if ((cpu.controlFlags & Rflags.NT) !== 0) {
    if (isIa32e(cpu)) throw selectorFault(cpu, '#GP', 0)
    throw notModelled('a return to another task')
  }
  const from64Bit = is64BitMode(cpu)
  const words = peekStack(cpu, from64Bit ? 5 : 3, operandBytes)
  const image = words[4]!
  if (!isIa32e(cpu) && cpu.cpl === 0 && operandBytes !== 2 && (image & Rflags.VM) !== 0) {
    throw notModelled('a return to virtual-8086 mode')
  }
  const target = returnTarget(cpu, {
    selector: words[2]! & 0xffff,
    offset: joinHalves(words[1]!, words[0]!),
  })
  const isOuter = target.level > cpu.cpl
  if (from64Bit || isOuter) {
    if (!from64Bit) words.push(...peekStack(cpu, 2, operandBytes, 3 * operandBytes))
    const stack = returnStack(cpu, words[8]! & 0xffff, target)
    loadFlags(cpu, image, operandBytes, { byInterruptReturn: true })
    enterCode(cpu, target)
    cpu.loadSegment(Segment.SS, stack)
    setStackPointer(cpu, movedPointer({ ...currentStack(cpu), low: words[6]!, high: words[7]! }, 0))
    if (isOuter) dropInnerSegments(cpu, target.level)
    return
  }
  const top = movedPointer(currentStack(cpu), 3 * operandBytes)
  loadFlags(cpu, image, operandBytes, { byInterruptReturn: true })
  enterCode(cpu, target)
  setStackPointer(cpu, top)
}

function returnInRealMode(cpu: Cpu, operandBytes: OperandBytes): void {
  if ((cpu.controlFlags & Rflags.VM) !== 0) throw notModelled('a return in virtual-8086 mode')
  const words = peekStack(cpu, 3, operandBytes)
  jumpInRealMode(cpu, { selector: words[2]! & 0xffff, offset: joinHalves(0, words[0]!) })
  loadFlags(cpu, words[4]!, operandBytes, { byInterruptReturn: true })
  setStackPointer(cpu, movedPointer(currentStack(cpu), 3 * operandBytes))
}

function notModelled(found: string): CoreError {
  return new CoreError('CORE_NOT_MODELLED', { expected: 'a return within a task', found })
}
