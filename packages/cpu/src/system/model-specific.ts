import {
  ApicBase,
  CoreError,
  type Cpu,
  decodePat,
  isCanonical,
  LOCAL_APIC_ADDRESS,
  type ModelSpecificRegisters,
  Segment,
  supportedLinearBits,
  X2APIC_MSRS,
} from '@trapdoor/core'

/** Model-specific registers by their index (SDM Vol. 4, table 2-2; APM Vol. 2, appendix A). */
const Msr = {
  TimeStampCounter: 0x10,
  ApicBase: 0x1b,
  BiosSignature: 0x8b,
  SysenterCs: 0x174,
  SysenterEsp: 0x175,
  SysenterEip: 0x176,
  MiscEnable: 0x1a0,
  Pat: 0x277,
  Pkrs: 0x6e1,
  Efer: 0xc000_0080,
  Star: 0xc000_0081,
  Lstar: 0xc000_0082,
  Cstar: 0xc000_0083,
  Fmask: 0xc000_0084,
  FsBase: 0xc000_0100,
  GsBase: 0xc000_0101,
  KernelGsBase: 0xc000_0102,
  TscAux: 0xc000_0103,
  /** PerfEvtSel0 to 3, and PerfCtr0 to 3 behind them. */
  PerformanceAmd: 0xc001_0000,
} as const

const X2APIC_MSR_COUNT = 0x100
const PERFORMANCE_MSRS = 8
const EVENT_SELECTS = 4
/** PerfEvtSel.EN: the counter counts. */
const COUNTS = 0x40_0000n
/** A counter has 48 bits. */
const COUNTER_BITS = 48
const WORD = 64n

/** The time-stamp counter: instructions that the CPU has carried out, and what was added to them. */
export function timeStamp(cpu: Cpu): bigint {
  return BigInt.asUintN(64, BigInt(cpu.instructions) + cpu.msrs.timeStampOffset)
}

/** RDMSR; undefined for a register that there is not, which is #GP(0). */
export function readModelSpecific(cpu: Cpu, index: number): bigint | undefined {
  const plain = PLAIN.get(index)
  if (plain !== undefined) return cpu.msrs[plain.field]
  switch (index) {
    case Msr.TimeStampCounter:
      return timeStamp(cpu)
    case Msr.ApicBase:
      return cpu.localApic === undefined ? cpu.msrs.apicBase : BigInt(cpu.localApic.apicBase)
    case Msr.BiosSignature:
      return 0n
    case Msr.Pat:
      return encodePat(cpu)
    case Msr.Pkrs:
      return cpu.machine.features.pks ? BigInt(cpu.pkrs) : undefined
    case Msr.Efer:
      return BigInt(cpu.efer)
    case Msr.FsBase:
      return cpu.segments[Segment.FS]!.base
    case Msr.GsBase:
      return cpu.segments[Segment.GS]!.base
    default:
      if (isX2Apic(index)) return cpu.localApic?.readMsr(index)
      return isAmdPerformance(cpu, index)
        ? cpu.msrs.performance[index - Msr.PerformanceAmd]
        : undefined
  }
}

/**
 * WRMSR. Returns whether the register is there and can hold the value, which is #GP(0) else; registers of paging throw that themselves.
 */
export function writeModelSpecific(cpu: Cpu, index: number, value: bigint): boolean {
  const plain = PLAIN.get(index)
  if (plain !== undefined) {
    if (!plain.holds(cpu, value)) return false
    cpu.msrs = { ...cpu.msrs, [plain.field]: value }
    return true
  }
  switch (index) {
    case Msr.TimeStampCounter:
      cpu.msrs = { ...cpu.msrs, timeStampOffset: value - BigInt(cpu.instructions) }
      return true
    case Msr.ApicBase:
      return writeApicBase(cpu, value)
    case Msr.BiosSignature:
      // Writing 0 before CPUID.01H is how software asks for the revision (SDM Vol. 3, 10.11.7.1).
      return true
    case Msr.Pat:
      return writePat(cpu, value)
    case Msr.Pkrs:
      if (value >> 32n !== 0n) return false
      cpu.writePkrs(Number(value))
      return true
    case Msr.Efer:
      cpu.writeEfer(Number(value))
      return true
    case Msr.FsBase:
      return writeBase(cpu, Segment.FS, value)
    case Msr.GsBase:
      return writeBase(cpu, Segment.GS, value)
    default:
      if (isX2Apic(index)) return cpu.localApic?.writeMsr(index, value) === true
      return isAmdPerformance(cpu, index) && writePerformance(cpu, index, value)
  }
}

/** Registers that hold a value and do nothing by themselves. */
interface PlainRegister {
  readonly field: Exclude<keyof ModelSpecificRegisters, 'performance'>
  readonly holds: (cpu: Cpu, value: bigint) => boolean
}

const anything = (): boolean => true
const word32 = (_cpu: Cpu, value: bigint): boolean => value >> 32n === 0n
const canonical = (cpu: Cpu, value: bigint): boolean =>
  isCanonical(value, supportedLinearBits(cpu.machine.features))

const PLAIN: ReadonlyMap<number, PlainRegister> = new Map([
  [Msr.SysenterCs, { field: 'sysenterCs', holds: word32 }],
  [Msr.SysenterEsp, { field: 'sysenterEsp', holds: canonical }],
  [Msr.SysenterEip, { field: 'sysenterEip', holds: canonical }],
  [Msr.MiscEnable, { field: 'miscEnable', holds: anything }],
  [Msr.Star, { field: 'star', holds: anything }],
  [Msr.Lstar, { field: 'lstar', holds: canonical }],
  [Msr.Cstar, { field: 'cstar', holds: canonical }],
  [Msr.Fmask, { field: 'fmask', holds: word32 }],
  [Msr.KernelGsBase, { field: 'kernelGsBase', holds: canonical }],
  [Msr.TscAux, { field: 'tscAux', holds: word32 }],
])

function isX2Apic(index: number): boolean {
  return index >= X2APIC_MSRS && index < X2APIC_MSRS + X2APIC_MSR_COUNT
}

function isAmdPerformance(cpu: Cpu, index: number): boolean {
  return (
    cpu.machine.features.vendor === 'amd' &&
    index >= Msr.PerformanceAmd &&
    index < Msr.PerformanceAmd + PERFORMANCE_MSRS
  )
}

/** Nothing is counted here: a counter that is switched on would tell a wrong number. CORE_NOT_MODELLED. */
function writePerformance(cpu: Cpu, index: number, value: bigint): boolean {
  const number = index - Msr.PerformanceAmd
  const isSelect = number < EVENT_SELECTS
  if (isSelect && (value & COUNTS) !== 0n) {
    throw new CoreError('CORE_NOT_MODELLED', {
      expected: 'performance counters that stay off',
      found: `MSR 0x${index.toString(16)} written with 0x${value.toString(16)}`,
    })
  }
  const kept = isSelect ? value : BigInt.asUintN(COUNTER_BITS, value)
  cpu.msrs = { ...cpu.msrs, performance: cpu.msrs.performance.with(number, kept) }
  return true
}

/** Without an APIC behind it, only the value that it has can be written. */
function writeApicBase(cpu: Cpu, value: bigint): boolean {
  if (cpu.localApic !== undefined) return cpu.localApic.writeApicBase(value)
  const expected = BigInt(LOCAL_APIC_ADDRESS + ApicBase.Enable + ApicBase.BootProcessor)
  return value === expected
}

function writeBase(cpu: Cpu, number: 4 | 5, value: bigint): boolean {
  if (!isCanonical(value, supportedLinearBits(cpu.machine.features))) return false
  cpu.loadSegment(number, { ...cpu.segments[number]!, base: value })
  return true
}

function encodePat(cpu: Cpu): bigint {
  return cpu.pat.reduce((value, kind, index) => value | (BigInt(kind) << BigInt(index * 8)), 0n)
}

/** IA32_PAT: eight memory types of 3 bits; encodings 2 and 3 are reserved (SDM Vol. 3, 12.12.2). */
function writePat(cpu: Cpu, value: bigint): boolean {
  for (let bit = 0n; bit < WORD; bit += 8n) {
    const kind = (value >> bit) & 0xffn
    if (kind > 7n || kind === 2n || kind === 3n) return false
  }
  cpu.pat = decodePat(value)
  return true
}
