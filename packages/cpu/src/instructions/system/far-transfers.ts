import {
  deliverInterrupt,
  farCall,
  farJump,
  type FarPointer,
  farReturn,
  interruptReturn,
  type OperandBytes,
  Rflags,
  systemCall,
  systemEnter,
  systemExit,
  systemReturn,
  Vector,
} from '@trapdoor/core'
import { Code, Mnemonic, OpKind } from 'iced-x86'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import { farOffsetBytes, readFarPointer, supportedOffsetBytes } from './far-pointer.ts'
import { nextRip } from './privilege.ts'

type Read = (general: Int32Array, execution: Execution) => FarPointer

/** Where a far branch leads, and the size of its operand. */
function farTarget(decoded: DecodedInstruction): {
  readonly read: Read
  readonly operandBytes: OperandBytes
} {
  const { instruction } = decoded
  if (decoded.isMemory(0)) {
    return { read: readFarPointer(decoded, 0), operandBytes: farOffsetBytes(decoded) }
  }
  const isWide = instruction.opKind(0) === OpKind.FarBranch32
  const pointer: FarPointer = {
    selector: instruction.farBranchSelector,
    offset: BigInt(isWide ? instruction.farBranch32 : instruction.farBranch16),
  }
  return { read: () => pointer, operandBytes: isWide ? 4 : 2 }
}

const jmp: Translator = (decoded) => {
  if (!decoded.isFarBranch) return undefined
  decoded.endsBlock = true
  const { read } = farTarget(decoded)
  return (general, execution) => {
    farJump(execution.cpu, read(general, execution))
  }
}

const call: Translator = (decoded) => {
  if (!decoded.isFarBranch) return undefined
  decoded.endsBlock = true
  const { read, operandBytes } = farTarget(decoded)
  const isFromMemory = decoded.isMemory(0)
  const { next } = decoded
  return (general, execution) => {
    const pointer = read(general, execution)
    farCall(execution.cpu, pointer, {
      operandBytes: isFromMemory ? supportedOffsetBytes(execution, operandBytes) : operandBytes,
      returnRip: nextRip(general, execution, next),
    })
  }
}

const FAR_RETURNS: ReadonlyMap<number, OperandBytes> = new Map([
  [Code.Retfw, 2],
  [Code.Retfw_imm16, 2],
  [Code.Retfd, 4],
  [Code.Retfd_imm16, 4],
  [Code.Retfq, 8],
  [Code.Retfq_imm16, 8],
])

const retf: Translator = (decoded) => {
  decoded.endsBlock = true
  const operandBytes = FAR_RETURNS.get(decoded.code)!
  const release = decoded.operands === 0 ? 0 : decoded.immediate(0).low & 0xffff
  return (_general, execution) => {
    farReturn(execution.cpu, { operandBytes, release })
  }
}

const iret =
  (operandBytes: OperandBytes): Translator =>
  (decoded) => {
    decoded.endsBlock = true
    return (_general, execution) => {
      interruptReturn(execution.cpu, operandBytes)
      execution.nmiBlocked = false
      // It may have let interrupts in, or switched single-stepping on.
      execution.attention = true
    }
  }

/** Enters a handler for an instruction: the single step that was due is the handler's no more, as TF is clear in it. */
function enter(
  execution: Execution,
  vector: number,
  returnRip: bigint,
  source: 'software' | 'exception',
): void {
  const { cpu } = execution
  const delivery = deliverInterrupt(cpu, { vector, source, returnRip })
  cpu.rip = delivery.rip
  execution.singleStepDue = false
}

const interrupt =
  (
    vectorOf: (decoded: DecodedInstruction) => number,
    source: 'software' | 'exception',
  ): Translator =>
  (decoded) => {
    decoded.endsBlock = true
    const vector = vectorOf(decoded)
    const { next } = decoded
    return (general, execution) => {
      enter(execution, vector, nextRip(general, execution, next), source)
    }
  }

const into: Translator = (decoded) => {
  decoded.endsBlock = true
  const { next } = decoded
  return (general, execution) => {
    const behind = nextRip(general, execution, next)
    if (execution.overflow) enter(execution, Vector.OF, behind, 'software')
    else execution.cpu.rip = behind
  }
}

const syscall: Translator = (decoded) => {
  decoded.endsBlock = true
  const { next } = decoded
  return (general, execution) => {
    systemCall(execution.cpu, nextRip(general, execution, next))
    stepIfTrapFlag(execution)
  }
}

const sysret =
  (operandBytes: 4 | 8): Translator =>
  (decoded) => {
    decoded.endsBlock = true
    return (_general, execution) => {
      systemReturn(execution.cpu, operandBytes)
      stepIfTrapFlag(execution)
    }
  }

/** SYSCALL and SYSRET are followed by a single-step trap by what TF is at their end, not at their beginning (SDM Vol. 3, 18.3.1.4). */
function stepIfTrapFlag(execution: Execution): void {
  execution.singleStepDue = (execution.cpu.controlFlags & Rflags.TF) !== 0
  execution.attention = true
}

const sysenter: Translator = (decoded) => {
  decoded.endsBlock = true
  return (_general, execution) => {
    systemEnter(execution.cpu)
  }
}

const sysexit =
  (operandBytes: 4 | 8): Translator =>
  (decoded) => {
    decoded.endsBlock = true
    return (_general, execution) => {
      systemExit(execution.cpu, operandBytes)
    }
  }

export const FAR_TRANSFERS: InstructionFamily = {
  name: 'far transfers',
  translators: new Map([
    [Mnemonic.Jmp, jmp],
    [Mnemonic.Call, call],
    [Mnemonic.Retf, retf],
    [Mnemonic.Iret, iret(2)],
    [Mnemonic.Iretd, iret(4)],
    [Mnemonic.Iretq, iret(8)],
    [Mnemonic.Int, interrupt((decoded) => decoded.immediate(0).low & 0xff, 'software')],
    [Mnemonic.Int3, interrupt(() => Vector.BP, 'software')],
    [Mnemonic.Int1, interrupt(() => Vector.DB, 'exception')],
    [Mnemonic.Into, into],
    [Mnemonic.Syscall, syscall],
    [Mnemonic.Sysret, sysret(4)],
    [Mnemonic.Sysretq, sysret(8)],
    [Mnemonic.Sysenter, sysenter],
    [Mnemonic.Sysexit, sysexit(4)],
    [Mnemonic.Sysexitq, sysexit(8)],
  ]),
}
