import { Gpr } from '@trapdoor/core'
import { CodeExt, Mnemonic } from 'iced-x86'

import { EXTENDED_STATES } from './encoding.ts'
import { branchTarget, prepareStack, selector, writablePlace } from './stack.ts'
import type { CaseState } from './state.ts'

const { RAX, RCX, RDX, RBX, RSP, RSI, RDI } = Gpr

/**
 * Sets registers and memory so that a case says something: random ones would nearly always divide by 0 or overflow, compare unequal, or lead nowhere. Part of the
 * cases is left as it is, so that faults come up too.
 */
export function prepare(state: CaseState): void {
  const opCode = CodeExt.opCode(state.encoding.form.code)
  const { isStackInstruction } = opCode
  const isString = state.encoding.form.address !== undefined && state.encoding.memory === undefined
  opCode.free()
  if (isString) prepareString(state)
  PREPARATIONS.get(state.encoding.mnemonic)?.(state)
  if (isStackInstruction) prepareStack(state)
}

type Preparation = (state: CaseState) => void

const PREPARATIONS = new Map<Mnemonic, Preparation>()
const shared: (readonly [readonly Mnemonic[], Preparation])[] = [
  [[Mnemonic.Div, Mnemonic.Idiv], prepareDivision],
  [[Mnemonic.Cmpxchg], prepareCompareExchange],
  [[Mnemonic.Cmpxchg8b, Mnemonic.Cmpxchg16b], prepareWideCompareExchange],
  [[Mnemonic.Bt, Mnemonic.Bts, Mnemonic.Btr, Mnemonic.Btc], prepareBitString],
  [[Mnemonic.Loop, Mnemonic.Loope, Mnemonic.Loopne], prepareLoop],
  [[Mnemonic.Jmp, Mnemonic.Call], prepareIndirectBranch],
  [[Mnemonic.Xlatb], prepareTranslation],
  [
    [Mnemonic.Maskmovq, Mnemonic.Maskmovdqu],
    (state) => {
      state.registers[RDI] = state.chooseAddress()
    },
  ],
  [
    [Mnemonic.Fxrstor, Mnemonic.Fxrstor64],
    (state) => {
      if (state.random.percent(90)) state.put(state.target! + MXCSR, randomMxcsr(state), 4)
    },
  ],
  [
    [Mnemonic.Ldmxcsr],
    (state) => {
      if (state.random.percent(90)) state.put(state.target!, randomMxcsr(state), 4)
    },
  ],
  [
    [
      Mnemonic.Rol,
      Mnemonic.Ror,
      Mnemonic.Rcl,
      Mnemonic.Rcr,
      Mnemonic.Shl,
      Mnemonic.Shr,
      Mnemonic.Sar,
      Mnemonic.Shld,
      Mnemonic.Shrd,
    ],
    prepareShift,
  ],
]
const looks = [Mnemonic.Lar, Mnemonic.Lsl, Mnemonic.Verr, Mnemonic.Verw]
shared.push([looks, prepareSelector], [[...EXTENDED_STATES], prepareExtendedState])
for (const [mnemonics, preparation] of shared) {
  for (const mnemonic of mnemonics) PREPARATIONS.set(mnemonic, preparation)
}

/** SI and DI lie in the window, near each other; a repeat count does not lead far. */
function prepareString(state: CaseState): void {
  const { encoding, random } = state
  const { address, bits } = encoding.form
  const addressBits = bits === 64 && address!.narrow ? 32 : bits
  const width = Math.max(encoding.operandBytes, 1)
  const place = state.chooseAddress(random.percent(50) ? width : 1, addressBits === 32)
  const offset = random.percent(70) ? random.below(33) - 16 : 0
  state.setLow(RSI, place - segmentBase(state), addressBits)
  state.setLow(RDI, place + BigInt(offset), addressBits)
  const count = random.below(Math.floor(state.window.length / 8 / width) + 2)
  state.setLow(RCX, BigInt(random.percent(90) ? count : random.below(4)), addressBits)
  if (encoding.form.prefix === undefined) return
  // Runs of equal elements, which comparisons go along.
  if (random.percent(70)) {
    const element = state.value(width * 8)
    for (let at = 0; at + width <= state.window.length; at += width) {
      if (random.percent(90)) state.put(state.windowAddress + BigInt(at), element, width)
    }
    state.setLow(RAX, random.percent(80) ? element : state.value(), width * 8)
  }
}

function segmentBase({ encoding, fsBase, gsBase }: CaseState): bigint {
  const segment = encoding.form.address?.segment
  return segment === undefined ? 0n : segment === 'fs' ? fsBase : gsBase
}

/** The dividend is mostly one whose quotient fits. */
function prepareDivision(state: CaseState): void {
  const { random, encoding } = state
  if (random.percent(15)) return
  const isSigned = encoding.mnemonic === Mnemonic.Idiv
  const width = encoding.operandBits
  const low = state.value(width)
  const sign = isSigned && low >> BigInt(width - 1) !== 0n
  const high = random.percent(60) ? (sign ? -1n : 0n) : BigInt(random.below(9) - (isSigned ? 4 : 0))
  const [base, index] = [encoding.memory?.base, encoding.memory?.index]
  if (width === 8) {
    if (base !== RAX && index !== RAX) {
      state.setLow(RAX, (BigInt.asUintN(8, high) << 8n) | low, 16)
    }
    return
  }
  if (base !== RAX && index !== RAX) state.setLow(RAX, low, width)
  if (base !== RDX && index !== RDX) state.setLow(RDX, high, width)
}

/** In half of the cases the accumulator holds what is compared with. */
function prepareCompareExchange(state: CaseState): void {
  const { random, encoding, registers } = state
  if (random.percent(50)) return
  const accumulator = registers[RAX]!
  if (state.target === undefined) registers[encoding.registers[0]!] = accumulator
  else state.put(state.target, accumulator, encoding.operandBytes)
}

function prepareWideCompareExchange(state: CaseState): void {
  const { random, encoding, registers } = state
  const half = encoding.operandBytes / 2
  if (half === 8 && random.percent(80)) {
    const aligned = state.aim(state.target! & ~15n)
    state.target = aligned
    state.layWindow(aligned)
  }
  if (random.percent(50)) return
  state.put(state.target!, registers[RAX]!, half)
  state.put(state.target! + BigInt(half), registers[RDX]!, half)
}

/** The bit that a register names lies in the window; the other bits of the register are random where the operand does not have them. */
function prepareBitString(state: CaseState): void {
  const { encoding, random } = state
  const register = encoding.registers[1]
  if (state.target === undefined || register === undefined) return
  const bits = encoding.operandBytes * 8
  state.setLow(register, BigInt(random.below(256) - 128), bits)
}

function prepareLoop(state: CaseState): void {
  if (state.random.percent(60)) state.registers[RCX] = BigInt(state.random.below(3))
}

function prepareIndirectBranch(state: CaseState): void {
  const { encoding, random } = state
  const isCall = encoding.mnemonic === Mnemonic.Call
  // Whether a call to an address that is not canonical has pushed already is not defined.
  if (!isCall && random.percent(3)) return
  const target = branchTarget(state)
  if (state.target !== undefined) {
    const { base, index } = encoding.memory!
    if ((base !== undefined || index !== undefined) && (isCall || random.percent(90))) {
      state.target = state.aim(writablePlace(state, 1, encoding.memory!.bits === 32))
      state.layWindow(state.target)
    }
    const isFar = encoding.operandBytes === 6 || encoding.operandBytes === 10
    const bytes = isFar ? encoding.operandBytes - 2 : encoding.operandBytes
    const near = isFar && bytes === 4 ? target & 0xffff_ffffn : target
    state.put(state.target, near, bytes)
    if (isFar) state.put(state.target + BigInt(bytes), selector(state), 2)
  } else if (encoding.registers[0] !== undefined && encoding.registers[0] !== RSP) {
    state.registers[encoding.registers[0]] = target
  }
}

function prepareTranslation(state: CaseState): void {
  const address = state.chooseAddress(1, state.encoding.form.bits === 32)
  state.registers[RBX] = BigInt.asUintN(64, address - (state.registers[RAX]! & 0xffn))
}

/** Descriptors of Linux's table by their index. The last of its 16 tells the number of the processor, which may be another each time. */
const DESCRIPTORS_OF_LINUX = 15

/** A selector of any level, mostly one of a descriptor that there is. */
function prepareSelector(state: CaseState): void {
  const { random, encoding } = state
  const index = random.percent(80) ? random.below(DESCRIPTORS_OF_LINUX) : 16 + random.below(8176)
  const table = random.percent(5) ? 4 : 0
  const value = BigInt((index << 3) | table | random.below(4))
  const register = encoding.registers.at(-1)
  if (state.target !== undefined) state.put(state.target, value, 2)
  else state.setLow(register!, value, 16)
}

/** Any of the bits that MXCSR has. */
function randomMxcsr({ random }: CaseState): bigint {
  return BigInt(random.below(0x1_0000))
}

const XSTATE_BV = 512n
const XCOMP_BV = 520n
const MXCSR = 24n

/** Components that both sides have; an area is mostly aligned, and XRSTOR finds a header there that is mostly valid. */
function prepareExtendedState(state: CaseState): void {
  const { random, encoding } = state
  state.setLow(RAX, BigInt(random.percent(60) ? 3 : random.below(4)), 32)
  state.setLow(RDX, 0n, 32)
  if (random.percent(95)) {
    state.target = state.aim(writablePlace(state, 64, encoding.memory!.bits === 32))
    state.layWindow(state.target)
  }
  const area = state.target!
  const isCompacted = random.percent(30)
  const format = random.below(4)
  state.put(area + MXCSR, randomMxcsr(state), 4)
  state.put(area + XSTATE_BV, BigInt(random.below(4) & (isCompacted ? format : 3)), 8)
  state.put(area + XCOMP_BV, isCompacted ? (1n << 63n) | BigInt(format) : 0n, 8)
  state.put(area + XCOMP_BV + 8n, 0n, 48)
  if (random.percent(5)) {
    // None of those that a component of the host's may have.
    const bit = BigInt(20 + random.below(492))
    state.put(area + XSTATE_BV + bit / 8n, 1n << (bit % 8n), 1)
  }
}

/** A count around the operand's size. */
function prepareShift(state: CaseState): void {
  const { encoding, random } = state
  const { base, index } = encoding.memory ?? {}
  if (base === RCX || index === RCX || random.percent(20)) return
  state.setLow(RCX, BigInt(random.below(72)), 8)
}
