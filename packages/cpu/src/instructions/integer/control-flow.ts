import { Mnemonic } from 'iced-x86'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { reader, wideReader } from '../../operands.ts'
import { forConditions } from './conditions.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import { invalidOpcode, missingInstruction } from '../undefined.ts'

/** Leaves RIP where a near branch leads, `distance` bytes from the beginning of the block. */
function branch(general: Int32Array, distance: number, distanceHigh: number): void {
  const low = general[32]!
  const next = (low + distance) | 0
  general[33] = general[33]! + distanceHigh + (next >>> 0 < low >>> 0 ? 1 : 0)
  general[32] = next
}

/** A conditional jump: leaves the block where it is taken. */
const jcc =
  (condition: number): Translator =>
  (decoded) => {
    const target = new BranchTarget(decoded)
    const { taken, takenHigh } = target
    const wanted = (condition & 1) === 0
    if (target.isNarrow) {
      return (general, execution) => {
        if (!execution.condition(condition)) return
        target.take(general)
        execution.leaveBlock()
      }
    }
    switch (condition >>> 1) {
      case 1:
        return (general, execution) => {
          if (execution.carry === wanted) execution.leave(general, taken, takenHigh)
        }
      case 2:
        return (general, execution) => {
          if (execution.zero === wanted) execution.leave(general, taken, takenHigh)
        }
      case 4:
        return (general, execution) => {
          if (execution.sign === wanted) execution.leave(general, taken, takenHigh)
        }
      default:
        return (general, execution) => {
          if (execution.condition(condition)) execution.leave(general, taken, takenHigh)
        }
    }
  }

/** Where a branch leads, and what follows it, from the beginning of its block. */
class BranchTarget {
  readonly taken: number
  readonly takenHigh: number
  readonly next: number
  /** Whether RIP has less than 64 bits, or the operand size cuts it. */
  readonly isNarrow: boolean
  readonly #mask: number

  constructor(decoded: DecodedInstruction) {
    const { branchDistance } = decoded
    this.taken = branchDistance | 0
    this.takenHigh = branchDistance < 0 ? -1 : 0
    this.next = decoded.next
    this.isNarrow = decoded.bits !== 64
    this.#mask = decoded.branchBytes === 2 ? 0xffff : -1
  }

  /** The same as {@link branch} where RIP is EIP or IP. */
  take(general: Int32Array): void {
    general[32] = (general[32]! + this.taken) & this.#mask
    general[33] = 0
  }

  fallThrough(general: Int32Array): void {
    general[32] = general[32]! + this.next
    general[33] = 0
  }
}

const jmp: Translator = (decoded) => {
  if (decoded.isFarBranch) return undefined
  decoded.endsBlock = true
  if (decoded.isRegister(0) || decoded.isMemory(0)) {
    const read = readTarget(decoded)
    return (general, execution) => {
      const low = read(general, execution)
      general[32] = low
      general[33] = execution.high
    }
  }
  const target = new BranchTarget(decoded)
  if (target.isNarrow) {
    return (general) => {
      target.take(general)
    }
  }
  const { taken, takenHigh } = target
  return (general) => {
    branch(general, taken, takenHigh)
  }
}

/** Reads the target of an indirect branch: halves of RIP. One that is not canonical is #GP(0) of the branch. */
function readTarget(
  decoded: DecodedInstruction,
): (general: Int32Array, execution: Execution) => number {
  const size = decoded.size(0)
  if (size === 8) {
    const read = wideReader(decoded, 0)
    return (general, execution) => {
      const low = read(general, execution)
      execution.checkCanonical(execution.high, low)
      return low
    }
  }
  const read = reader(decoded, 0, size)
  return (general, execution) => {
    const low = read(general, execution)
    execution.high = 0
    return low
  }
}

const call: Translator = (decoded) => {
  if (decoded.isFarBranch) return undefined
  const { next } = decoded
  if (decoded.isFollowed) {
    return (general, execution) => {
      pushNext(general, execution, next, 8)
    }
  }
  decoded.endsBlock = true
  const size = decoded.stackBytes
  if (decoded.isRegister(0) || decoded.isMemory(0)) {
    const read = readTarget(decoded)
    return (general, execution) => {
      const low = read(general, execution)
      const { high } = execution
      pushNext(general, execution, next, size)
      general[32] = low
      general[33] = high
    }
  }
  const target = new BranchTarget(decoded)
  if (target.isNarrow) {
    return (general, execution) => {
      pushNext(general, execution, next, size)
      target.take(general)
    }
  }
  const { taken, takenHigh } = target
  return (general, execution) => {
    pushNext(general, execution, next, 8)
    branch(general, taken, takenHigh)
  }
}

function pushNext(general: Int32Array, execution: Execution, next: number, size: 2 | 4 | 8): void {
  const low = general[32]!
  const returnLow = (low + next) | 0
  if (size === 8) {
    const carry = (next >> 31) + (returnLow >>> 0 < low >>> 0 ? 1 : 0)
    execution.push64(general, returnLow, (general[33]! + carry) | 0)
  } else {
    execution.push(general, size, returnLow)
  }
}

const ret: Translator = (decoded) => {
  decoded.endsBlock = true
  const size = decoded.stackBytes
  const released = decoded.operands === 0 ? 0 : decoded.immediate(0).low & 0xffff
  if (size !== 8) {
    return (general, execution) => {
      const target = execution.pop(general, size)
      execution.addToStackPointer(general, released)
      general[32] = target
      general[33] = 0
    }
  }
  return (general, execution) => {
    const low = execution.loadStack64(general[9]!, general[8]!)
    const { high } = execution
    execution.checkCanonical(high, low)
    execution.addToStackPointer(general, 8 + released)
    general[32] = low
    general[33] = high
  }
}

/** LOOP, LOOPE, LOOPNE and JRCXZ: by RCX, ECX or CX, as the address size has it. */
const countedBranch =
  (kind: 'loop' | 'loope' | 'loopne' | 'jcxz', bits: 16 | 32 | 64): Translator =>
  (decoded) => {
    decoded.endsBlock = true
    const target = new BranchTarget(decoded)
    return (general, execution) => {
      const isTaken = countDown(general, execution, kind, bits)
      if (target.isNarrow) {
        if (isTaken) target.take(general)
        else target.fallThrough(general)
      } else if (isTaken) {
        branch(general, target.taken, target.takenHigh)
      } else {
        branch(general, target.next, 0)
      }
    }
  }

function countDown(
  general: Int32Array,
  execution: Execution,
  kind: 'loop' | 'loope' | 'loopne' | 'jcxz',
  bits: 16 | 32 | 64,
): boolean {
  const step = kind === 'jcxz' ? 0 : 1
  const low = general[2]!
  let isZero: boolean
  if (bits === 16) {
    const count = (low - step) & 0xffff
    general[2] = (low & ~0xffff) | count
    isZero = count === 0
  } else {
    const count = (low - step) | 0
    general[2] = count
    if (bits === 64) {
      if (step === 1 && low === 0) general[3] = general[3]! - 1
      isZero = (count | general[3]!) === 0
    } else {
      if (step === 1) general[3] = 0
      isZero = count === 0
    }
  }
  if (kind === 'jcxz') return isZero
  if (isZero) return false
  return kind === 'loop' || execution.zero === (kind === 'loope')
}

/** A near branch with an operand-size prefix in 64-bit mode, which ends elsewhere on AMD's processors, and may be shorter there: it is not modelled for them. */
function refusingNarrow([mnemonic, translator]: [Mnemonic, Translator]): [Mnemonic, Translator] {
  return [
    mnemonic,
    (decoded) => {
      const operation = translator(decoded)
      if (operation === undefined || !decoded.isNarrowNearBranch) return operation
      const missing = missingInstruction(`o16 ${decoded.instruction.toString()}`, decoded.bytes)
      return (general, execution) => {
        if (execution.cpu.machine.features.vendor === 'amd') missing(general, execution)
        operation(general, execution)
      }
    },
  ]
}

const BRANCHES: readonly [Mnemonic, Translator][] = [
  ...forConditions('J', jcc),
  [Mnemonic.Jmp, jmp],
  [Mnemonic.Call, call],
  [Mnemonic.Ret, ret],
  [Mnemonic.Jrcxz, countedBranch('jcxz', 64)],
  [Mnemonic.Jecxz, countedBranch('jcxz', 32)],
  [Mnemonic.Jcxz, countedBranch('jcxz', 16)],
  [Mnemonic.Loop, (decoded) => countedBranch('loop', decoded.countBits)(decoded)],
  [Mnemonic.Loope, (decoded) => countedBranch('loope', decoded.countBits)(decoded)],
  [Mnemonic.Loopne, (decoded) => countedBranch('loopne', decoded.countBits)(decoded)],
]

const undefinedInstruction: Translator = ({ bytes }) => invalidOpcode(bytes)

export const CONTROL_FLOW: InstructionFamily = {
  name: 'control flow',
  translators: new Map([
    ...BRANCHES.map(refusingNarrow),
    [Mnemonic.Ud0, undefinedInstruction],
    [Mnemonic.Ud1, undefinedInstruction],
    [Mnemonic.Ud2, undefinedInstruction],
  ]),
}
