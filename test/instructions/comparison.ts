import { Gpr, Segment } from '@trapdoor/core'
import { Code, Mnemonic } from 'iced-x86'

import type { Encoding } from './cases/encoding.ts'
import { FxsaveOffset } from './cases/fpu-state.ts'
import type { Model, ModelOutcome } from './model.ts'
import {
  CaseFlag,
  COMPLETED,
  FXSAVE_BYTES,
  RecordOffset,
  type RecordShape,
} from './native/layout.ts'
import {
  MASKED_STORES,
  UNDEFINED_BITS,
  undefinedResult,
  UNORDERED_ACCESSES,
} from './undefined-results.ts'
import { enterMmx, storeFxsave } from './user-mode.ts'

/** One thing that is not on our machine as it is on the host's. */
export interface Difference {
  /** What: a register, `RFLAGS`, `RIP`, `memory`, `exception`, … */
  readonly what: string
  readonly ours: string
  readonly theirs: string
}

/** A case before, and the host's result. */
export interface CaseRecords {
  readonly before: DataView
  readonly after: DataView
  readonly shape: RecordShape
}

/** RF is set in the image of RFLAGS that a fault leaves, and in no instruction's result; TF steps. */
const IGNORED_FLAGS = 0x1_0100
/** A process is told P for its page faults at kernel addresses, whatever there is (Linux, arch/x86/mm/fault.c, sanitize_error_code()). */
const HIDDEN_OF_KERNEL = 1
const PAGE_FAULT = 14
const { RAX, RCX, RDX, RBX } = Gpr
const NAMES = Object.keys(Gpr)

/** Registers whose values are a processor's own: what its time-stamp counter, its number, its features or its noise are. Only that their upper halves are 0 is compared. */
const OWN_VALUES: ReadonlyMap<Mnemonic, (encoding: Encoding) => readonly number[]> = new Map<
  Mnemonic,
  (encoding: Encoding) => readonly number[]
>([
  [Mnemonic.Cpuid, () => [RAX, RCX, RDX, RBX]],
  [Mnemonic.Rdtsc, () => [RAX, RDX]],
  [Mnemonic.Rdtscp, () => [RAX, RCX, RDX]],
  [Mnemonic.Rdpid, ({ registers }) => [registers[0]!]],
  [Mnemonic.Xgetbv, () => [RAX, RDX]],
])

/** Compares what a case left in our machine with the host's record of it. Nothing is returned where all that is defined agrees. */
export function compareCase(
  encoding: Encoding,
  { before, after, shape }: CaseRecords,
  model: Model,
  outcome: ModelOutcome,
): Difference[] {
  const found: Difference[] = []
  const vector = after.getUint8(RecordOffset.Length)
  if (
    vector === PAGE_FAULT &&
    outcome.vector === COMPLETED &&
    MASKED_STORES.has(encoding.mnemonic)
  ) {
    return found
  }
  if (vector !== outcome.vector) {
    found.push({
      what: 'exception',
      ours: describeVector(outcome.vector),
      theirs: describeVector(vector),
    })
    return found
  }
  const isCompleted = vector === COMPLETED
  if (!isCompleted) compareFault(encoding, after, outcome, found)
  const rflags = after.getUint32(RecordOffset.Rflags, true)
  const open = isCompleted
    ? undefinedResult(encoding, before, rflags)
    : { flags: 0, registers: 0, destination: false }
  const first = encoding.registers[0]
  const destination = open.destination ? first : undefined
  const openBits = isCompleted ? (UNDEFINED_BITS.get(encoding.mnemonic) ?? 0) : 0
  const is32 = (before.getUint8(RecordOffset.Flags) & CaseFlag.Bits32) !== 0
  const own = isCompleted ? OWN_VALUES.get(encoding.mnemonic)?.(encoding) : undefined
  const { cpu } = model
  for (let register = 0; register < 16; register++) {
    if (register === destination || (is32 && register >= 8)) continue
    const [low, high] = [cpu.general[register * 2]!, cpu.general[register * 2 + 1]!]
    const at = register * 8
    const isOwn = own?.includes(register) === true
    if (
      (!isOwn && ((low ^ after.getInt32(at, true)) & ~(register === first ? openBits : 0)) !== 0) ||
      (!is32 && high !== after.getInt32(at + 4, true))
    ) {
      found.push({
        what: NAMES[register]!,
        ours: hex(cpu.general64[register]!),
        theirs: hex(after.getBigUint64(at, true)),
      })
    }
  }
  const flagMask = ~(IGNORED_FLAGS | open.flags)
  if (((cpu.rflags ^ rflags) & flagMask) !== 0) {
    found.push({
      what: 'RFLAGS',
      ours: describeFlags(cpu.rflags & flagMask),
      theirs: describeFlags(rflags & flagMask),
    })
  }
  if (cpu.rip !== after.getBigUint64(RecordOffset.Rip, true)) {
    const theirs = hex(after.getBigUint64(RecordOffset.Rip, true))
    found.push({ what: 'RIP', ours: hex(cpu.rip), theirs })
  }
  const bases = [
    ['FS base', Segment.FS, RecordOffset.FsBase],
    ['GS base', Segment.GS, RecordOffset.GsBase],
  ] as const
  for (const [what, segment, at] of bases) {
    const [ours, theirs] = [cpu.segments[segment]!.base, after.getBigUint64(at, true)]
    if (ours !== theirs) found.push({ what, ours: hex(ours), theirs: hex(theirs) })
  }
  compareMemory(encoding, open.destination, { before, after, model, shape, found })
  if (!shape.fpu) return found
  const states: Difference[] = []
  compareFloatingPoint(after, model, shape, states)
  if (states.length > 0 && !isCompleted && usesMmx(encoding)) {
    // A processor may have gone over from the x87 to MMX before the fault, wholly or in part: it does so again after it. Those of Intel have for conversions, and for stores as far as the top of the stack.
    for (const part of ['top', 'tags'] as const) {
      if (states.length === 0) break
      enterMmx(model.cpu, part)
      states.length = 0
      compareFloatingPoint(after, model, shape, states)
    }
  }
  return [...found, ...states]
}

/** Whether a form has an operand that is an MMX register. */
function usesMmx({ form }: Encoding): boolean {
  return Code[form.code].includes('_mm')
}

function compareFault(
  { mnemonic }: Encoding,
  after: DataView,
  outcome: ModelOutcome,
  found: Difference[],
): void {
  const cr2 = after.getBigUint64(RecordOffset.Window, true)
  const isPageFault = after.getUint8(RecordOffset.Length) === PAGE_FAULT
  const hidden = isPageFault && cr2 >> 63n === 1n ? HIDDEN_OF_KERNEL : 0
  const distance = cr2 > outcome.cr2 ? cr2 - outcome.cr2 : outcome.cr2 - cr2
  // Which page refuses first decides about the error code, too.
  if (isPageFault && distance > 0n && distance <= (UNORDERED_ACCESSES.get(mnemonic) ?? 0n)) return
  const errorCode = after.getUint32(RecordOffset.ErrorCode, true)
  if ((errorCode | hidden) !== (outcome.errorCode | hidden)) {
    const theirs = hex(errorCode)
    found.push({ what: 'error code', ours: hex(outcome.errorCode), theirs })
  }
  if (isPageFault && distance > 0n) {
    found.push({ what: 'CR2', ours: hex(outcome.cr2), theirs: hex(cr2) })
  }
}

function compareMemory(
  encoding: Encoding,
  isOpen: boolean,
  sides: CaseRecords & { readonly model: Model; readonly found: Difference[] },
): void {
  const { before, after, model, shape, found } = sides
  const window = before.getBigUint64(RecordOffset.Window, true)
  const ours = model.readWindow(window, shape.windowBytes)
  const theirs = new Uint8Array(
    after.buffer,
    after.byteOffset + RecordOffset.WindowBytes,
    ours.length,
  )
  if (isOpen && encoding.memory !== undefined) return
  if (after.getUint8(RecordOffset.Length) === PAGE_FAULT && encoding.operandBytes > 8) {
    takeTornBytes(encoding, after.getBigUint64(RecordOffset.Window, true), window, { ours, theirs })
  }
  if (STATE_STORES.has(encoding.mnemonic)) {
    takeMisalignedMask(Number(operandAddress(encoding, before) - window), { ours, theirs })
  }
  if (model.matchesData(window, theirs)) return
  const at = ours.findIndex((byte, index) => byte !== theirs[index])
  if (at < 0) {
    found.push({ what: 'memory', ours: 'changed outside of the window', theirs: 'not changed' })
    return
  }
  const part = (bytes: Uint8Array): string =>
    Buffer.from(bytes.subarray(at, at + 16)).toString('hex')
  const what = `memory at ${hex(window + BigInt(at))}`
  found.push({ what, ours: part(ours), theirs: part(theirs) })
}

const STATE_STORES: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.Fxsave,
  Mnemonic.Fxsave64,
  Mnemonic.Xsave,
  Mnemonic.Xsave64,
  Mnemonic.Xsavec,
  Mnemonic.Xsavec64,
])
/** Where MXCSR_MASK is in the image of a state; of MM, bit 17 there, the byte and the bit in it. */
const MXCSR_MASK_AT = 28
const MXCSR_MASK = 0xffff
const MM = { byte: 2, bit: 2 }

/** Takes bit 17 of MXCSR_MASK out of the host's image: MXCSR.MM is AMD's misaligned exception mask (APM Vol. 1, 4.2.2), which CPUID has a bit for that no emulated processor reports. */
function takeMisalignedMask(
  address: number,
  { ours, theirs }: { readonly ours: Uint8Array; readonly theirs: Uint8Array },
): void {
  const at = address + MXCSR_MASK_AT
  if (at < 0 || at + 4 > ours.length) return
  if (new DataView(ours.buffer, ours.byteOffset).getUint32(at, true) !== MXCSR_MASK) return
  theirs[at + MM.byte] = theirs[at + MM.byte]! & ~MM.bit
}

/** The linear address of an operand in memory, as the registers were before the case. */
function operandAddress({ memory }: Encoding, before: DataView): bigint {
  const { base, index, scale, displacement, bits, segment } = memory!
  const value = (register: number | undefined): bigint =>
    register === undefined ? 0n : before.getBigUint64(register * 8, true)
  const offset = BigInt.asUintN(bits, value(base) + value(index) * BigInt(scale) + displacement)
  const segmentBase =
    segment === undefined
      ? 0n
      : before.getBigUint64(segment === 'fs' ? RecordOffset.FsBase : RecordOffset.GsBase, true)
  return BigInt.asUintN(64, offset + segmentBase)
}

/**
 * Leaves out the bytes of an operand that lie before the page that refused: a store of more than 8 bytes may be made in parts, of which some are done when another faults (SDM Vol. 3, 9.1.1).
 */
function takeTornBytes(
  { operandBytes }: Encoding,
  cr2: bigint,
  window: bigint,
  { ours, theirs }: { readonly ours: Uint8Array; readonly theirs: Uint8Array },
): void {
  const end = Number((cr2 & ~0xfffn) - window)
  for (let at = Math.max(0, end - operandBytes); at < Math.min(end, ours.length); at++) {
    theirs[at] = ours[at]!
  }
}

const image = new DataView(new ArrayBuffer(FXSAVE_BYTES))

function compareFloatingPoint(
  after: DataView,
  model: Model,
  { windowBytes }: RecordShape,
  found: Difference[],
): void {
  storeFxsave(model.cpu, image)
  const start = RecordOffset.WindowBytes + windowBytes
  const compare = (what: string, at: number, bytes: number): void => {
    const [ours, theirs] = [readNumber(image, at, bytes), readNumber(after, start + at, bytes)]
    if (ours !== theirs) found.push({ what, ours: hex(ours), theirs: hex(theirs) })
  }
  compare('FCW', FxsaveOffset.Fcw, 2)
  compare('FSW', FxsaveOffset.Fsw, 2)
  compare('FTW', FxsaveOffset.Ftw, 1)
  compare('MXCSR', FxsaveOffset.Mxcsr, 4)
  for (let register = 0; register < 8; register++) {
    compare(`ST${register}`, FxsaveOffset.St + register * 16, 10)
  }
  for (let register = 0; register < 16; register++) {
    compare(`XMM${register}`, FxsaveOffset.Xmm + register * 16, 16)
  }
}

function readNumber(view: DataView, at: number, bytes: number): bigint {
  let value = 0n
  for (let index = bytes - 2; index >= 0; index -= 2) {
    value = (value << 16n) | BigInt(view.getUint16(at + index, true))
  }
  return bytes === 1 ? BigInt(view.getUint8(at)) : value
}

const FLAGS: readonly (readonly [string, number])[] = [
  ['CF', 0x1],
  ['PF', 0x4],
  ['AF', 0x10],
  ['ZF', 0x40],
  ['SF', 0x80],
  ['IF', 0x200],
  ['DF', 0x400],
  ['OF', 0x800],
  ['NT', 0x4000],
  ['AC', 0x4_0000],
  ['ID', 0x20_0000],
]

/** The flags that are set, by name. */
export function describeFlags(rflags: number): string {
  const set = FLAGS.filter(([, bit]) => (rflags & bit) !== 0).map(([name]) => name)
  return `${hex(rflags)} ${set.join(' ')}`.trim()
}

const EXCEPTIONS: Readonly<Record<number, string>> = {
  [COMPLETED]: 'none',
  0: '#DE',
  1: '#DB',
  3: '#BP',
  4: '#OF',
  5: '#BR',
  6: '#UD',
  7: '#NM',
  11: '#NP',
  12: '#SS',
  13: '#GP',
  14: '#PF',
  16: '#MF',
  17: '#AC',
  19: '#XM',
}

export function describeVector(vector: number): string {
  return EXCEPTIONS[vector] ?? `vector ${vector}`
}

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}
