import {
  accessRights,
  Cr4,
  isAccessible,
  loadSegmentRegister,
  Rflags,
  Segment,
  segmentLimit,
  type SegmentNumber,
} from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { highHalf, join, lowHalf } from '../../halves.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import { reader, writeRegister } from '../../operands.ts'
import { readFarPointer } from './far-pointer.ts'
import { longModeOnly, protectedModeOnly, supervisorOnly } from './privilege.ts'

type DataSegment = Exclude<SegmentNumber, typeof Segment.CS>

/** Loads a segment register other than CS; no interrupt and no trap comes between a load of SS and the next instruction (SDM Vol. 3, 6.8.3). */
function load(execution: Execution, number: DataSegment, selector: number): void {
  loadSegmentRegister(execution.cpu, number, selector)
  if (number === Segment.SS) execution.shadowNext({ traps: true })
}

/** MOV to and from a segment register. To a 32-bit or 64-bit register the selector is zero-extended, memory gets 16 bits (SDM Vol. 2, MOV). */
const mov: Translator = (decoded) => {
  const target = decoded.segmentRegister(0)
  if (target !== undefined) {
    if (target === Segment.CS) return undefined
    const read = reader(decoded, 1, 2)
    return (general, execution) => {
      load(execution, target, read(general, execution) & 0xffff)
    }
  }
  const source = decoded.segmentRegister(1)
  if (source === undefined) return undefined
  if (decoded.isMemory(0)) {
    const { memory } = decoded
    return (general, execution) => {
      const low = execution.address(general, memory)
      execution.store16(execution.addressHigh, low, execution.cpu.segments[source]!.selector)
    }
  }
  const write = writeZeroExtended(decoded)
  return (general, execution) => {
    write(general, execution, execution.cpu.segments[source]!.selector)
  }
}

/** Writes to a general register of 16, 32 or 64 bits. */
function writeZeroExtended(
  decoded: DecodedInstruction,
): (general: Int32Array, execution: Execution, value: number) => void {
  const register = decoded.register(0)
  if (register.size === 2) return writeRegister(register)
  return writeRegister({ ...register, size: 4 })
}

const push: Translator = (decoded) => {
  const source = decoded.segmentRegister(0)
  if (source === undefined) return undefined
  const size = decoded.stackBytes
  return (general, execution) => {
    const { selector } = execution.cpu.segments[source]!
    if (size === 8) execution.push64(general, selector, 0)
    else execution.push(general, size, selector)
  }
}

const pop: Translator = (decoded) => {
  const target = decoded.segmentRegister(0)
  if (target === undefined || target === Segment.CS) return undefined
  const size = decoded.stackBytes
  return (general, execution) => {
    const selector =
      size === 8 ? execution.loadStack64(general[9]!, general[8]!) : execution.top(general, size)
    // The pointer moves by the stack segment that was, and not at all where the new one is refused.
    const before = general[8]!
    const beforeHigh = general[9]!
    execution.addToStackPointer(general, size)
    try {
      load(execution, target, selector & 0xffff)
    } catch (error) {
      general[8] = before
      general[9] = beforeHigh
      throw error
    }
  }
}

/** LDS, LES, LSS, LFS, LGS: a far pointer from memory into a segment register and a general one. */
const loadFar =
  (number: DataSegment): Translator =>
  (decoded) => {
    const read = readFarPointer(decoded, 1)
    const { word, size } = decoded.register(0)
    return (general, execution) => {
      const { selector, offset } = read(general, execution)
      load(execution, number, selector)
      if (size === 2) {
        general[word] = (general[word]! & ~0xffff) | Number(offset & 0xffffn)
      } else {
        general[word] = lowHalf(offset)
        general[word + 1] = size === 8 ? highHalf(offset) : 0
      }
    }
  }

/** LAR and LSL: ZF tells whether the destination was written. */
const look =
  (what: (execution: Execution, selector: number) => number | undefined): Translator =>
  (decoded) => {
    const read = reader(decoded, 1, 2)
    const write = writeZeroExtended(decoded)
    return protectedModeOnly(decoded, (general, execution) => {
      const value = what(execution, read(general, execution) & 0xffff)
      if (value !== undefined) write(general, execution, value | 0)
      setZero(execution, value !== undefined)
    })
  }

const verify =
  (access: 'read' | 'write'): Translator =>
  (decoded) => {
    const read = reader(decoded, 0, 2)
    return protectedModeOnly(decoded, (general, execution) => {
      setZero(execution, isAccessible(execution.cpu, read(general, execution) & 0xffff, access))
    })
  }

/** ARPL: raises the RPL of a selector to that of another. */
const arpl: Translator = (decoded) => {
  const read = reader(decoded, 1, 2)
  const current = reader(decoded, 0, 2)
  const isRegister = decoded.isRegister(0)
  // Whatever the operand size is, 16 bits are written.
  const write = isRegister ? writeRegister({ ...decoded.register(0), size: 2 }) : undefined
  const memory = isRegister ? undefined : decoded.memory
  return protectedModeOnly(decoded, (general, execution) => {
    const level = read(general, execution) & 3
    const selector = current(general, execution) & 0xffff
    const raises = (selector & 3) < level
    if (raises) {
      const raised = (selector & ~3) | level
      if (write !== undefined) {
        write(general, execution, raised)
      } else {
        const low = execution.address(general, memory!)
        execution.store16(execution.addressHigh, low, raised)
      }
    }
    setZero(execution, raises)
  })
}

function setZero(execution: Execution, isZero: boolean): void {
  const others = execution.statusFlags & ~Rflags.ZF
  execution.statusFlags = isZero ? others | Rflags.ZF : others
}

/** RDFSBASE, WRFSBASE and their like exist where CR4.FSGSBASE is set, in 64-bit mode. */
function withBaseInstructions(decoded: DecodedInstruction, operation: Operation): Operation {
  return longModeOnly(decoded, (general, execution) => {
    if ((execution.cpu.cr4 & Cr4.FSGSBASE) === 0) throw execution.invalidOpcode(decoded.bytes)
    operation(general, execution)
  })
}

const readBase =
  (number: DataSegment): Translator =>
  (decoded) => {
    const { word, size } = decoded.register(0)
    return withBaseInstructions(decoded, (general, { cpu }) => {
      const { base } = cpu.segments[number]!
      general[word] = lowHalf(base)
      general[word + 1] = size === 8 ? highHalf(base) : 0
    })
  }

const writeBase =
  (number: DataSegment): Translator =>
  (decoded) => {
    const { word, size } = decoded.register(0)
    return withBaseInstructions(decoded, (general, execution) => {
      const { cpu } = execution
      const high = size === 8 ? general[word + 1]! : 0
      execution.checkCanonical(high, general[word]!)
      cpu.loadSegment(number, { ...cpu.segments[number]!, base: join(high, general[word]!) })
    })
  }

const swapgs: Translator = (decoded) =>
  longModeOnly(
    decoded,
    supervisorOnly('SWAPGS', (_general, { cpu }) => {
      const segment = cpu.segments[Segment.GS]!
      const { kernelGsBase } = cpu.msrs
      cpu.msrs = { ...cpu.msrs, kernelGsBase: segment.base }
      cpu.loadSegment(Segment.GS, { ...segment, base: kernelGsBase })
    }),
  )

export const SEGMENTS: InstructionFamily = {
  name: 'segments',
  translators: new Map([
    [Mnemonic.Mov, mov],
    [Mnemonic.Push, push],
    [Mnemonic.Pop, pop],
    [Mnemonic.Lds, loadFar(Segment.DS)],
    [Mnemonic.Les, loadFar(Segment.ES)],
    [Mnemonic.Lss, loadFar(Segment.SS)],
    [Mnemonic.Lfs, loadFar(Segment.FS)],
    [Mnemonic.Lgs, loadFar(Segment.GS)],
    [Mnemonic.Lar, look(({ cpu }, selector) => accessRights(cpu, selector))],
    [Mnemonic.Lsl, look(({ cpu }, selector) => segmentLimit(cpu, selector))],
    [Mnemonic.Verr, verify('read')],
    [Mnemonic.Verw, verify('write')],
    [Mnemonic.Arpl, arpl],
    [Mnemonic.Rdfsbase, readBase(Segment.FS)],
    [Mnemonic.Rdgsbase, readBase(Segment.GS)],
    [Mnemonic.Wrfsbase, writeBase(Segment.FS)],
    [Mnemonic.Wrgsbase, writeBase(Segment.GS)],
    [Mnemonic.Swapgs, swapgs],
  ]),
}
