import { isCanonical } from '../address.ts'
import { Cr0, Efer } from '../cpu/control.ts'
import type { Cpu, PrivilegeLevel } from '../cpu/cpu.ts'
import { GeneralProtection, InvalidOpcode } from '../cpu/exception.ts'
import { Gpr } from '../cpu/general-registers.ts'
import { Rflags } from '../cpu/rflags.ts'
import { Segment, type SegmentRegister, SegmentRights } from '../cpu/segment-register.ts'
import { CoreError } from '../error.ts'
import { is64BitMode, isIa32e } from './descriptor.ts'

/** What SYSRET lets R11 set (SDM Vol. 2, SYSRET). */
const RETURNED_FLAGS = 0x3c_7fd7
const LIMIT = 0xffff_ffff

/** SYSCALL: to the supervisor at IA32_LSTAR, or on AMD from compatibility mode at CSTAR; `returnRip` is the address of the instruction behind it (SDM Vol. 2, SYSCALL; APM Vol. 3, SYSCALL). */
export function systemCall(cpu: Cpu, returnRip: bigint): void {
  const { vendor } = cpu.machine.features
  const isLong = is64BitMode(cpu)
  if ((cpu.efer & Efer.SCE) === 0 || (!isLong && vendor === 'intel')) {
    throw undefinedHere(cpu, 'SYSCALL')
  }
  if (!isIa32e(cpu)) throw legacyCall('SYSCALL')
  const { star, lstar, cstar, fmask } = cpu.msrs
  cpu.general64[Gpr.RCX] = returnRip
  cpu.general64[Gpr.R11] = BigInt(cpu.rflags & ~Rflags.RF)
  cpu.rflags = (cpu.rflags & ~Number(BigInt.asUintN(32, fmask)) & ~Rflags.RF) | Rflags.Fixed
  enterSupervisor(cpu, Number((star >> 32n) & 0xfffcn), { isLong: true })
  cpu.rip = isLong ? lstar : cstar
}

/** SYSRET, to 64-bit code with a 64-bit operand, else to compatibility mode (SDM Vol. 2, SYSRET; APM Vol. 3, SYSRET). */
export function systemReturn(cpu: Cpu, operandBytes: 4 | 8): void {
  const { vendor } = cpu.machine.features
  if ((cpu.efer & Efer.SCE) === 0 || (!is64BitMode(cpu) && vendor === 'intel')) {
    throw undefinedHere(cpu, 'SYSRET')
  }
  if (cpu.cpl !== 0) throw refused(cpu, 'SYSRET is for the supervisor')
  if (!isIa32e(cpu)) throw legacyCall('SYSRET')
  const rcx = cpu.general64[Gpr.RCX]!
  const isLong = operandBytes === 8
  // AMD checks nothing here, and faults when the user fetches.
  if (isLong && vendor === 'intel') checkCanonical(cpu, rcx)
  const base = Number((cpu.msrs.star >> 48n) & 0xffffn)
  const flags = Number(cpu.general64[Gpr.R11]! & BigInt(RETURNED_FLAGS))
  const stack = flatData((base + 8) | 3, 3)
  const kept = { ...cpu.segments[Segment.SS]!, selector: stack.selector }
  cpu.loadSegment(Segment.CS, flatCode((isLong ? base + 16 : base) | 3, 3, { isLong }))
  cpu.loadSegment(Segment.SS, vendor === 'intel' ? stack : kept)
  cpu.cpl = 3
  cpu.rflags = (flags & ~Rflags.RF) | Rflags.Fixed
  cpu.rip = isLong ? rcx : BigInt.asUintN(32, rcx)
}

/** SYSENTER (SDM Vol. 2). AMD has it outside of IA-32e mode only (APM Vol. 3, SYSENTER). */
export function systemEnter(cpu: Cpu): void {
  const { sysenterCs, sysenterEip, sysenterEsp } = cpu.msrs
  const selector = checkedSysenterSelector(cpu, 'SYSENTER')
  const isLong = isIa32e(cpu)
  cpu.rflags &= ~(Rflags.VM | Rflags.IF | Rflags.RF)
  enterSupervisor(cpu, Number(sysenterCs & 0xfffcn), { isLong })
  const bits = isLong ? 64 : 32
  cpu.rip = BigInt.asUintN(bits, sysenterEip)
  cpu.rsp = BigInt.asUintN(bits, sysenterEsp)
  // The selector was looked at for being null alone.
  cpu.cs = selector
}

/** SYSEXIT: RDX and RCX are the user's RIP and RSP (SDM Vol. 2). */
export function systemExit(cpu: Cpu, operandBytes: 4 | 8): void {
  const selector = checkedSysenterSelector(cpu, 'SYSEXIT')
  if (cpu.cpl !== 0) throw refused(cpu, 'SYSEXIT is for the supervisor')
  const isLong = operandBytes === 8
  const [rip, rsp] = [cpu.general64[Gpr.RDX]!, cpu.general64[Gpr.RCX]!]
  if (isLong) {
    checkCanonical(cpu, rip)
    checkCanonical(cpu, rsp)
  }
  const code = (selector + (isLong ? 32 : 16)) | 3
  cpu.loadSegment(Segment.CS, flatCode(code, 3, { isLong }))
  cpu.loadSegment(Segment.SS, flatData(code + 8, 3))
  cpu.cpl = 3
  cpu.rip = isLong ? rip : BigInt.asUintN(32, rip)
  cpu.rsp = isLong ? rsp : BigInt.asUintN(32, rsp)
}

function checkedSysenterSelector(cpu: Cpu, name: string): number {
  if (isIa32e(cpu) && cpu.machine.features.vendor === 'amd') throw undefinedHere(cpu, name)
  const selector = Number(cpu.msrs.sysenterCs & 0xfffcn)
  if ((cpu.cr0 & Cr0.PE) === 0 || selector === 0) {
    throw refused(cpu, `${name} needs protected mode and IA32_SYSENTER_CS`)
  }
  return selector
}

/** Flat segments of level 0 that no descriptor is read for. */
function enterSupervisor(
  cpu: Cpu,
  selector: number,
  { isLong }: { readonly isLong: boolean },
): void {
  cpu.loadSegment(Segment.CS, flatCode(selector, 0, { isLong }))
  cpu.loadSegment(Segment.SS, flatData(selector + 8, 0))
  cpu.cpl = 0
}

function flatCode(
  selector: number,
  level: PrivilegeLevel,
  { isLong }: { readonly isLong: boolean },
): SegmentRegister {
  const rights =
    SegmentRights.Granularity |
    SegmentRights.Present |
    SegmentRights.CodeOrData |
    SegmentRights.Code |
    SegmentRights.ReadableOrWritable |
    SegmentRights.Accessed |
    (isLong ? SegmentRights.Long : SegmentRights.Default32) |
    (level << SegmentRights.PrivilegeShift)
  return { selector: selector & 0xffff, base: 0n, limit: LIMIT, rights }
}

function flatData(selector: number, level: PrivilegeLevel): SegmentRegister {
  const rights =
    SegmentRights.Granularity |
    SegmentRights.Default32 |
    SegmentRights.Present |
    SegmentRights.CodeOrData |
    SegmentRights.ReadableOrWritable |
    SegmentRights.Accessed |
    (level << SegmentRights.PrivilegeShift)
  return { selector: selector & 0xffff, base: 0n, limit: LIMIT, rights }
}

function checkCanonical(cpu: Cpu, address: bigint): void {
  if (isCanonical(address, cpu.mode.linearBits === 57 ? 57 : 48)) return
  throw refused(cpu, 'the user’s address is not canonical', address)
}

function refused(cpu: Cpu, reason: string, value = 0n): GeneralProtection {
  return cpu.raise((site) => new GeneralProtection(reason, value, site))
}

function undefinedHere(cpu: Cpu, name: string): InvalidOpcode {
  const message = `${name} is no instruction here`
  return cpu.raise((site) => new InvalidOpcode(message, undefined, new Uint8Array(), site))
}

function legacyCall(name: string): CoreError {
  return new CoreError('CORE_NOT_MODELLED', {
    expected: `${name} in IA-32e mode`,
    found: 'one in legacy mode',
  })
}
