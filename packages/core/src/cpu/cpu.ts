import { isCanonical } from '../address.ts'
import { CoreError } from '../error.ts'
import {
  type CachingControls,
  PAT_AT_RESET,
  type PageAttributeTable,
} from '../memory/memory-type.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { highHalf, joinHalves, lowHalf } from '../halves.ts'
import { isLinear, type TranslationContext, type WalkStep } from '../paging/inspect.ts'
import { offsetInPage } from '../paging/linear-page.ts'
import { PAGING_OFF, type PagingMode, pagingMode } from '../paging/mode.ts'
import { PdpteRegisters } from '../paging/pdpte-registers.ts'
import { Rights, ROOT_IN_REGISTERS, WalkStatus } from '../paging/walk.ts'
import type { StaleTranslation, TranslationNow } from '../machine/event-log.ts'
import type { Machine } from '../machine/machine.ts'
import { MachineReset } from '../machine/reset.ts'
import type { Rewind } from '../rewind.ts'
import type { GateFunction } from '../calls/call-gate.ts'
import { type ActiveCall, FunctionCalls } from '../calls/function-calls.ts'
import { supportedLinearBits } from './features.ts'
import { CR0_LONG_MODE, Cr0, Cr4, Efer } from './control.ts'
import {
  type ControlState,
  CR0_BITS,
  CR3_KEEP_TRANSLATIONS,
  PCID_MASK,
  refuseCr0,
  refuseCr3,
  refuseCr4,
  refuseEfer,
  reloadsPdptes,
} from './control-registers.ts'
import type { CpuCounters } from './counters.ts'
import {
  type CpuException,
  type FaultSite,
  GeneralProtection,
  InvalidOpcode,
  PageFault,
  StackFault,
} from './exception.ts'
import type { CpuExecution } from './executor.ts'
import { FloatingPointState } from './floating-point-state.ts'
import { EXECUTOR_WORDS, GENERAL_WORDS } from './general-registers.ts'
import { type ModelSpecificRegisters, MSRS_AT_RESET } from './model-specific.ts'
import { type CurrentTranslation, FAULT, Mmu, type StaleUse } from './mmu.ts'
import { AccessKind, accessOf, type PermissionControls, sameControls } from './permission.ts'
import type { LocalApic } from '../devices/local-apic.ts'
import type { InterruptEvent } from '../interrupt/event.ts'
import { CONTROL_FLAGS, Rflags, STATUS_FLAGS } from './rflags.ts'
import {
  NO_LDT,
  Segment,
  type SegmentNumber,
  type SegmentRegister,
  SegmentRights,
  SEGMENTS_AT_RESET,
  SEGMENTS_IN_LONG_MODE,
} from './segment-register.ts'
import type { DescriptorTable, TaskRegister } from '../segmentation/task-register.ts'
import type { Tlb } from './tlb.ts'

/** Privilege levels, of which 0 may do everything. */
export type PrivilegeLevel = 0 | 1 | 2 | 3

/** Told of every physical page that the CPU touches, while it is set: by modelled code at each access, by machine code at the first access of a kind, and again when it had to look the page up. */
export type TouchRecorder = (
  frame: number,
  access: 'read' | 'write' | 'execute',
  address: bigint,
) => void

/** What an access is made for, where it is not the program's own data or code. */
export interface AccessOrigin {
  /** The processor's own access to a descriptor table or to the stack of an interrupt: a supervisor's at any privilege level, and SMAP does not look at AC. */
  readonly implicit?: boolean
  /** An access to the stack: where another would raise #GP, this raises #SS. */
  readonly stack?: boolean
}

const PHYSICAL_PAGE = 4096
const EXPLICIT: AccessOrigin = {}
/** All exceptions masked, rounding to nearest (SDM Vol. 1, 10.2.3). */
export const MXCSR_AT_RESET = 0x1f80
/** GDTR, IDTR and TR after RESET, as far as they are modelled. */
const NO_TABLE: DescriptorTable = { base: 0n, limit: 0xffff }
const NO_STEPS: readonly WalkStep[] = []

/**
 * One x86-64 processor. Every access names a 64-bit linear address and goes through the TLB and the page tables that CR3 points to, in the mode that the
 * control registers select; what hardware would refuse is thrown as a {@link CpuException}. Values are little endian.
 */
export class Cpu {
  readonly id: number
  readonly machine: Machine
  /** The entrance to translation for who counts nanoseconds. */
  readonly mmu: Mmu
  /** Faulting address of the last page fault. */
  cr2: bigint
  /** RFLAGS.IF. */
  interruptFlag: boolean
  /** The general registers, low half of register n (see {@link Gpr}) at 2n, high half at 2n + 1; behind them come {@link EXECUTOR_WORDS} that are an executor's. */
  readonly general: Int32Array
  /** The same memory as 64-bit values. */
  readonly general64: BigUint64Array
  /** ES, CS, SS, DS, FS and GS. Loading one of them is {@link loadSegment}. */
  readonly segments: SegmentRegister[]
  ldtr: SegmentRegister
  msrs: ModelSpecificRegisters
  /** DR0 to DR7; plain storage: nothing breaks. */
  debugRegisters: readonly bigint[]
  gdtr: DescriptorTable
  idtr: DescriptorTable
  taskRegister: TaskRegister
  /** IA32_PAT. */
  pat: PageAttributeTable
  /** MXCSR, which rules SSE's rounding and its exceptions. */
  mxcsr: number
  /** The local APIC, where the machine has one for this CPU: machine code reaches it as CR8 and by MSRs, its registers in memory are a device's. Forks have none. */
  localApic: LocalApic | undefined
  /** The registers of x87, MMX and SSE. */
  floatingPoint: FloatingPointState
  /** What an executor that has run on this CPU keeps of it. */
  execution: CpuExecution | undefined

  #cpl: PrivilegeLevel
  #touchRecorder: TouchRecorder | undefined
  #recordsEveryAccess = false
  #rip: bigint
  #statusFlags: number
  #controlFlags: number
  #control: ControlState
  #mode: PagingMode
  #pdptes: PdpteRegisters | undefined
  #alignmentCheck: boolean
  #pkru: number
  #pkrs: number
  #controls: PermissionControls | undefined
  readonly #functions: FunctionCalls = new FunctionCalls(this)
  readonly #memory: PhysicalMemory

  /** A CPU as `machine.start` says, with interrupts off; or with the registers of `from` and an empty TLB. */
  constructor(machine: Machine, id: number, from?: Cpu) {
    this.machine = machine
    this.id = id
    this.#memory = machine.memory
    this.#control =
      from === undefined ? (machine.start === 'reset' ? AT_RESET : IN_LONG_MODE) : from.#control
    this.#mode = pagingMode(this.cr0, this.cr4, this.efer)
    this.#pdptes = from === undefined ? undefined : from.#pdptes
    this.#alignmentCheck = from?.alignmentCheck ?? false
    this.#pkru = from?.pkru ?? 0
    this.#pkrs = from?.pkrs ?? 0
    this.cr2 = from?.cr2 ?? 0n
    this.interruptFlag = from?.interruptFlag ?? false
    this.#cpl = from?.cpl ?? 0
    this.#rip = from?.rip ?? 0n
    this.#statusFlags = from?.statusFlags ?? 0
    this.#controlFlags = from?.controlFlags ?? 0
    this.general = new Int32Array(GENERAL_WORDS + EXECUTOR_WORDS)
    this.general64 = new BigUint64Array(this.general.buffer, 0, GENERAL_WORDS / 2)
    if (from !== undefined) this.general64.set(from.general64)
    this.segments = (
      from?.segments ?? (machine.start === 'reset' ? SEGMENTS_AT_RESET : SEGMENTS_IN_LONG_MODE)
    ).slice()
    this.ldtr = from?.ldtr ?? NO_LDT
    this.msrs = from?.msrs ?? MSRS_AT_RESET
    this.debugRegisters = from?.debugRegisters ?? DEBUG_REGISTERS_AT_RESET
    this.gdtr = from?.gdtr ?? NO_TABLE
    this.idtr = from?.idtr ?? NO_TABLE
    this.taskRegister = from?.taskRegister ?? { ...NO_TABLE, selector: 0 }
    this.mxcsr = from?.mxcsr ?? MXCSR_AT_RESET
    this.floatingPoint = new FloatingPointState(
      from?.floatingPoint ?? (machine.start === 'reset' ? 'reset' : 'initialised'),
    )
    this.pat = from?.pat ?? PAT_AT_RESET
    this.endbranchTracking = from?.endbranchTracking ?? false
    this.mmu = new Mmu(machine.memory, machine.features, machine.policy)
    this.mmu.onStaleUse = (use) => {
      this.#reportStaleUse(use)
    }
    this.mmu.onChange = () => {
      this.execution?.translationsChanged()
    }
    this.mmu.onDrop = (high, low) => {
      this.execution?.pageDropped(high, low)
    }
    this.#configureMmu()
  }

  get tlb(): Tlb {
    return this.mmu.tlb
  }

  get counters(): CpuCounters {
    return this.mmu.counters
  }

  /** Current privilege level: 3 is a user, the others are supervisors. */
  get cpl(): PrivilegeLevel {
    return this.#cpl
  }

  set cpl(value: PrivilegeLevel) {
    if (value === this.#cpl) return
    this.#cpl = value
    this.execution?.privilegeChanged()
  }

  /** Top of the stack. Calls push on it. */
  get rsp(): bigint {
    return this.general64[4]!
  }

  set rsp(value: bigint) {
    this.general64[4] = value
  }

  /** Address of the instruction that comes next in machine code, or that is being carried out. */
  get rip(): bigint {
    return this.execution?.rip ?? this.#rip
  }

  set rip(value: bigint) {
    this.#rip = value
    if (this.execution !== undefined) this.execution.rip = value
  }

  /** CF, PF, AF, ZF, SF and OF, at their places in RFLAGS. */
  get statusFlags(): number {
    return this.execution?.statusFlags ?? this.#statusFlags
  }

  set statusFlags(value: number) {
    this.#statusFlags = value & STATUS_FLAGS
    if (this.execution !== undefined) this.execution.statusFlags = this.#statusFlags
  }

  /** TF, DF, IOPL, NT, RF, VM, VIF, VIP and ID, at their places in RFLAGS. */
  get controlFlags(): number {
    return this.#controlFlags
  }

  set controlFlags(value: number) {
    this.#controlFlags = value & CONTROL_FLAGS
  }

  /** RFLAGS, whole: bits 31 to 0, as those above are 0. */
  get rflags(): number {
    return (
      Rflags.Fixed |
      this.statusFlags |
      this.#controlFlags |
      (this.interruptFlag ? Rflags.IF : 0) |
      (this.#alignmentCheck ? Rflags.AC : 0)
    )
  }

  /** Takes over all flags that there are; who writes them sees to privilege. */
  set rflags(value: number) {
    this.statusFlags = value
    this.controlFlags = value
    this.interruptFlag = (value & Rflags.IF) !== 0
    const alignmentCheck = (value & Rflags.AC) !== 0
    if (alignmentCheck !== this.#alignmentCheck) this.alignmentCheck = alignmentCheck
  }

  /** Selector of the code segment, whose privilege is {@link cpl}. Setting it leaves the hidden part as it is. */
  get cs(): number {
    return this.segments[Segment.CS]!.selector
  }

  set cs(selector: number) {
    this.segments[Segment.CS] = { ...this.segments[Segment.CS]!, selector }
  }

  /** Selector of the stack segment, as {@link cs}. */
  get ss(): number {
    return this.segments[Segment.SS]!.selector
  }

  set ss(selector: number) {
    this.segments[Segment.SS] = { ...this.segments[Segment.SS]!, selector }
  }

  /** Puts what a descriptor said into a segment register. A code segment brings its CS.L along. */
  loadSegment(number: SegmentNumber, segment: SegmentRegister): void {
    const before = this.segments[number]!
    this.segments[number] = segment
    if (number !== Segment.CS) {
      this.execution?.segmentLoaded()
      return
    }
    const isLong = (segment.rights & SegmentRights.Long) !== 0
    if (isLong !== this.#control.codeSegmentLong) {
      this.#control = { ...this.#control, codeSegmentLong: isLong }
    }
    const decides = SegmentRights.Long | SegmentRights.Default32
    if (((before.rights ^ segment.rights) & decides) !== 0 || before.base !== segment.base) {
      this.execution?.translationsChanged()
    }
  }

  /** Instructions that an executor has carried out on this CPU; each iteration of a repeated string instruction counts. Modelled code counts nothing. */
  get instructions(): number {
    return this.execution?.instructions ?? 0
  }

  get touchRecorder(): TouchRecorder | undefined {
    return this.#touchRecorder
  }

  set touchRecorder(value: TouchRecorder | undefined) {
    this.#touchRecorder = value
    this.execution?.translationsChanged()
  }

  /** Whether {@link touchRecorder} is told of each access of machine code, too. */
  get recordsEveryAccess(): boolean {
    return this.#recordsEveryAccess && this.#touchRecorder !== undefined
  }

  set recordsEveryAccess(value: boolean) {
    this.#recordsEveryAccess = value
    this.execution?.translationsChanged()
  }

  get cr0(): number {
    return this.#control.cr0
  }

  /**
   * MOV to CR0. Setting PG activates the mode that CR4 and EFER select, clearing it drops every translation. What the SDM forbids is #GP(0), a page-directory-pointer
   * table with reserved bits among it (Vol. 2, MOV to control registers).
   */
  writeCr0(value: number): void {
    this.#refuse('CR0 cannot hold this value', value, refuseCr0(this.#control, value))
    const cr0 = ((value & CR0_BITS) | Cr0.ET) >>> 0
    const isPaging = (cr0 & Cr0.PG) !== 0
    const isLongMode = isPaging && (this.efer & Efer.LME) !== 0
    const efer = isLongMode ? this.efer | Efer.LMA : this.efer & ~Efer.LMA
    const wasPaging = (this.cr0 & Cr0.PG) !== 0
    this.#load({ ...this.#control, cr0, efer }, value)
    if (wasPaging && !isPaging) this.#flushEverything()
  }

  /** The register as it reads, without bit 63: the root, with a PCID or PWT and PCD in the low bits. */
  get cr3(): number {
    return this.#control.cr3
  }

  /** Physical address of the root table in bytes. */
  get root(): number {
    const below = this.#mode.rootInRegisters ? 32 : PHYSICAL_PAGE
    return this.cr3 - (this.cr3 % below)
  }

  /**
   * MOV to CR3: loads a root, and drops the translations of its context that are not global, unless {@link CR3_KEEP_TRANSLATIONS} is set in `value` and CR4.PCIDE
   * allows that. A root above MAXPHYADDR is #GP(0), a value that no register can hold a {@link CoreError}.
   */
  writeCr3(value: number | bigint): void {
    const isPcidOn = (this.cr4 & Cr4.PCIDE) !== 0
    const operand = registerOperand(value, this.isLongCode ? 64n : 32n)
    const keeps = isPcidOn && (operand & CR3_KEEP_TRANSLATIONS) !== 0n
    const loaded = keeps ? operand ^ CR3_KEEP_TRANSLATIONS : operand
    this.#refuse('CR3 cannot hold this root', value, refuseCr3(this.machine.features, loaded))
    const cr3 = Number(loaded)
    if (this.#mode.rootInRegisters) this.#loadPdptes(cr3)
    const from = this.cr3
    this.machine.log.emit({ kind: 'cr3-write', cpu: this.id, from, to: cr3 })
    this.#control = { ...this.#control, cr3 }
    this.counters.cr3Writes++
    if (this.#mode.rootInRegisters) this.#configureMmu()
    else this.mmu.selectRoot(Math.floor(cr3 / PHYSICAL_PAGE), this.#pcid)
    if (!keeps) this.mmu.flushContext(this.#pcid)
  }

  get cr4(): number {
    return this.#control.cr4
  }

  /**
   * MOV to CR4. A change of PGE, and clearing PCIDE, drop all translations; a change of PAE, and setting SMEP, those of the current context (SDM Vol. 3,
   * 4.10.4.1). A bit that the CPU lacks, and a change that the mode forbids, are #GP(0).
   */
  writeCr4(value: number): void {
    const { features } = this.machine
    this.#refuse('CR4 cannot hold this value', value, refuseCr4(this.#control, features, value))
    const from = this.cr4
    const changed = value ^ from
    const pcid = this.#pcid
    this.#load({ ...this.#control, cr4: value }, value)
    this.machine.log.emit({ kind: 'cr4-write', cpu: this.id, from, to: value })
    if ((changed & (Cr4.PGE | (from & Cr4.PCIDE))) !== 0) {
      this.#flushEverything()
    } else if ((changed & (Cr4.PAE | (value & Cr4.SMEP))) !== 0) {
      this.mmu.flushContextAndGlobal(pcid)
    }
  }

  get efer(): number {
    return this.#control.efer
  }

  /** WRMSR to IA32_EFER. NXE on a CPU without NX is #GP(0), and so is a change of LME while paging is on. It drops no translation. */
  writeEfer(value: number): void {
    const { features } = this.machine
    this.#refuse('EFER cannot hold this value', value, refuseEfer(this.#control, features, value))
    const efer = (value & ~Efer.LMA) | (this.efer & Efer.LMA)
    this.#load({ ...this.#control, efer }, value)
  }

  /** CS.L, which tells 64-bit mode from compatibility mode in IA-32e mode. */
  get codeSegmentLong(): boolean {
    return this.#control.codeSegmentLong
  }

  /** Whether the code that runs is 64-bit code. */
  get isLongCode(): boolean {
    return this.codeSegmentLong && (this.efer & Efer.LMA) !== 0
  }

  /** A far jump into a code segment with or without CS.L, and as the last one otherwise. */
  set codeSegmentLong(value: boolean) {
    const code = this.segments[Segment.CS]!
    const rights = code.rights & ~SegmentRights.Long
    this.loadSegment(Segment.CS, { ...code, rights: value ? rights | SegmentRights.Long : rights })
  }

  /** The protection-key rights of user pages. */
  get pkru(): number {
    return this.#pkru
  }

  /** WRPKRU: takes effect at once and drops no translation. Without CR4.PKE it is #UD. */
  writePkru(value: number): void {
    if ((this.cr4 & Cr4.PKE) === 0) {
      throw this.#lacksInstruction('WRPKRU needs CR4.PKE')
    }
    this.#pkru = value >>> 0
    this.#configureMmu()
  }

  /** IA32_PKRS, the protection-key rights of supervisor pages. */
  get pkrs(): number {
    return this.#pkrs
  }

  /** WRMSR to IA32_PKRS. A CPU without supervisor keys has no such register: #GP(0). */
  writePkrs(value: number): void {
    const missing = this.machine.features.pks ? undefined : 'this CPU has no IA32_PKRS'
    this.#refuse('IA32_PKRS', value, missing)
    this.#pkrs = value >>> 0
    this.#configureMmu()
  }

  /** RFLAGS.AC, which lets a supervisor pass SMAP. */
  get alignmentCheck(): boolean {
    return this.#alignmentCheck
  }

  set alignmentCheck(value: boolean) {
    this.#alignmentCheck = value
    this.#configureMmu()
  }

  /** The paging mode that the control registers select. */
  get mode(): PagingMode {
    return this.#mode
  }

  /** INVLPG: drops the translations of one page in the current context, and global ones; an address that is not canonical is nothing. */
  invlpg(address: bigint): void {
    this.machine.log.emit({ kind: 'invlpg', cpu: this.id, address })
    this.counters.invlpgs++
    if (isLinear(this.#mode, address)) this.mmu.invalidatePage(address)
  }

  /**
   * INVPCID (SDM Vol. 2): type 0 drops one page of a context, 1 a context, 2 everything, 3 everything but global translations. A CPU without it raises #UD; a descriptor
   * that it cannot hold, a context other than 0 without CR4.PCIDE, and for type 0 an address that is not canonical, #GP(0).
   */
  invpcid(type: 0 | 1 | 2 | 3, pcid: number, address: bigint): void {
    if (!this.machine.features.invpcid) {
      throw this.#lacksInstruction('this CPU has no INVPCID')
    }
    this.#refuse('INVPCID', pcid, this.#refuseInvpcid(type, pcid, address))
    this.machine.log.emit({ kind: 'invpcid', cpu: this.id, type, pcid, address })
    if (type === 0) {
      // What CR4.LA57 keeps from being an address has no translations.
      if (isLinear(this.#mode, address)) this.mmu.invalidatePageOf(pcid, address)
    } else if (type === 1) this.mmu.flushContext(pcid)
    else if (type === 2) this.#flushEverything()
    else this.mmu.flushNonGlobal()
  }

  /** Every translation that the TLB holds and the page tables no longer give. Global ones are compared with the current root, those of a context with the last root that it had. */
  staleTranslations(): StaleTranslation[] {
    return this.mmu.staleEntries().map(({ high, low, held, now, change }) => ({
      cpu: this.id,
      address: joinHalves(high, low),
      via: 'TLB',
      held: describeTranslation(held),
      now: describeTranslation(now),
      changedBy: change?.by,
    }))
  }

  /** What inspectors need to read this CPU's tables as it would; `root` (bytes) defaults to CR3's. */
  translationContext(root: number = this.root): TranslationContext {
    return {
      memory: this.#memory,
      mode: this.#mode,
      features: this.machine.features,
      noExecute: this.#hasNoExecute,
      root,
    }
  }

  /** What decides the memory types of this CPU's accesses. */
  get caching(): CachingControls {
    const { mtrrs } = this.machine
    return { pat: this.pat, mtrrs, cacheDisable: (this.cr0 & Cr0.CD) !== 0 }
  }

  /** The functions that were called and have not returned, the innermost last. */
  get calls(): readonly ActiveCall[] {
    return this.#functions.active
  }

  /** What the page tables that are loaded say of an address, whatever the TLB holds; undefined where it is mapped nowhere. Nothing is touched. */
  lookUp(address: bigint): { readonly frame: number; readonly writable: boolean } | undefined {
    if (!isLinear(this.#mode, address)) return undefined
    if (this.#mode === PAGING_OFF) return { frame: lowHalf(address) >>> 12, writable: true }
    const { status, frame, rights } = this.mmu.lookUp(highHalf(address), lowHalf(address))
    if (status !== WalkStatus.Mapped) return undefined
    return { frame, writable: (rights & Rights.Writable) !== 0 }
  }

  /** The physical address that an access to `address` would reach, by the TLB where it holds a translation, else by the page tables; undefined where there is none. Nothing is touched. */
  peekPhysical(address: bigint): number | undefined {
    if (!isLinear(this.#mode, address)) return undefined
    const frame = this.mmu.peekFrame(address)
    return frame === FAULT ? undefined : frame * PHYSICAL_PAGE + offsetInPage(address)
  }

  /**
   * The physical address that an access to `address` reaches. Sets accessed and dirty flags and fills the TLB, as the access would. An address that is not canonical, or that
   * LASS keeps from this privilege level, is #GP(0) or #SS(0), what the page tables refuse #PF.
   */
  translate(
    address: bigint,
    access: 'read' | 'write' | 'execute',
    origin: AccessOrigin = EXPLICIT,
  ): number {
    const verb =
      access === 'read'
        ? AccessKind.Read
        : access === 'write'
          ? AccessKind.Write
          : AccessKind.Execute
    const isImplicit = origin.implicit === true
    if (!isLinear(this.#mode, address)) {
      throw this.#refusedAddress('address is not canonical', address, origin)
    }
    const isUser = this.cpl === 3 && !isImplicit
    if ((this.cr4 & Cr4.LASS) !== 0 && this.#violatesLass(address, verb, isUser, isImplicit)) {
      throw this.#refusedAddress('linear-address-space separation', address, origin)
    }
    const offset = isImplicit ? AccessKind.ImplicitOffset : isUser ? AccessKind.UserOffset : 0
    const low = lowHalf(address)
    const frame = this.translateHalves(highHalf(address), low, verb + offset)
    this.#touchRecorder?.(frame, access, address)
    return frame * PHYSICAL_PAGE + (low & 0xfff)
  }

  /** The frame that an access reaches, as {@link Mmu.translate}, but a page fault is raised. */
  translateHalves(high: number, low: number, kind: number): number {
    const frame = this.mmu.translate(high, low, kind)
    if (frame === FAULT) throw this.#pageFault(high, low, kind)
    return frame
  }

  read8(address: bigint): number {
    return this.#memory.readByCpu(this.translate(address, 'read'), 1)
  }

  read16(address: bigint): number {
    return this.#readSmall(address, 2, EXPLICIT)
  }

  /** An unsigned 32-bit value. */
  read32(address: bigint, origin: AccessOrigin = EXPLICIT): number {
    return this.#readSmall(address, 4, origin)
  }

  read64(address: bigint, origin: AccessOrigin = EXPLICIT): bigint {
    if ((lowHalf(address) & 7) === 0) {
      const at = this.translate(address, 'read', origin)
      if (!this.#memory.hasDevices) return this.#memory.read64(at)
      const low = this.#memory.readByCpu(at, 4)
      return joinHalves(this.#memory.readByCpu(at + 4, 4), low)
    }
    const bytes = this.readBytes(address, 8, origin)
    return new DataView(bytes.buffer).getBigUint64(0, true)
  }

  write8(address: bigint, value: number): void {
    this.#memory.writeByCpu(this.translate(address, 'write'), 1, value)
  }

  write16(address: bigint, value: number): void {
    this.#writeSmall(address, 2, value, EXPLICIT)
  }

  write32(address: bigint, value: number, origin: AccessOrigin = EXPLICIT): void {
    this.#writeSmall(address, 4, value, origin)
  }

  write64(address: bigint, value: bigint, origin: AccessOrigin = EXPLICIT): void {
    if ((lowHalf(address) & 7) === 0) {
      const at = this.translate(address, 'write', origin)
      if (this.#memory.hasDevices) {
        this.#memory.writeByCpu(at, 4, lowHalf(value))
        this.#memory.writeByCpu(at + 4, 4, highHalf(value))
      } else {
        this.#memory.write64(at, value)
      }
      return
    }
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true)
    this.writeBytes(address, bytes, origin)
  }

  /** A copy of `length` bytes from `address`, page by page. */
  readBytes(address: bigint, length: number, origin: AccessOrigin = EXPLICIT): Uint8Array {
    const bytes = new Uint8Array(length)
    this.#copyIn(address, bytes, 'read', origin)
    return bytes
  }

  /** Copies the bytes from `address` on into `bytes`, as many as it has, page by page. */
  readInto(address: bigint, bytes: Uint8Array, origin: AccessOrigin = EXPLICIT): void {
    this.#copyIn(address, bytes, 'read', origin)
  }

  /** A copy of `length` bytes of code from `address`, as instruction fetches read them. */
  fetchBytes(address: bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    this.#copyIn(address, bytes, 'execute', EXPLICIT)
    return bytes
  }

  /** Writes `bytes` at `address`, page by page; pages before one that faults are written. */
  writeBytes(address: bigint, bytes: Uint8Array, origin: AccessOrigin = EXPLICIT): void {
    for (let done = 0; done < bytes.length;) {
      const at = address + BigInt(done)
      const count = Math.min(bytes.length - done, PHYSICAL_PAGE - offsetInPage(at))
      this.#memory.writeBytesByCpu(
        this.translate(at, 'write', origin),
        bytes.subarray(done, done + count),
      )
      done += count
    }
  }

  /** Whether indirect branches have to lead to ENDBR64: IA32_S_CET.ENDBR_EN, which counts while CR4.CET is set. */
  endbranchTracking: boolean

  /**
   * Calls the code at `address` by an indirect branch: pushes a return address, fetches through the page tables, and runs the gate
   * that the bytes are, or that follows an ENDBR64. Other bytes are machine code for the machine's executor; without one they are #UD. A gate without ENDBR64 is #CP where branches are tracked
   * (SDM Vol. 1, 18.3). In 64-bit mode arguments are passed in registers, to machine code as UEFI has it; elsewhere each is a word of 32 bits on the stack, the first at the lowest address, and
   * stack and code are 32-bit segments from 0 on. Returns RAX or EAX.
   *
   * What is thrown out of machine code leaves the CPU where the instruction stood that raised it.
   */
  call(address: bigint, ...args: readonly bigint[]): bigint {
    return this.#functions.call(address, args)
  }

  /**
   * Delivers an event and runs its handler to the end: {@link deliverInterrupt}, a gate with the address of its frame and its error code as arguments, {@link returnFromInterrupt}.
   * Machine code runs until its own IRET has gone back to what was interrupted. Returns what the handler left in RAX.
   */
  interrupt(event: InterruptEvent): bigint {
    return this.#functions.interrupt(event)
  }

  /** Runs the gate that machine code has come to, with the arguments that it passed, and returns to the code as RET does. RSP points to the return address. */
  runGate(gate: GateFunction): void {
    this.#functions.runGate(gate)
  }

  /** Raises an exception at what this CPU is doing: it is logged, and returned to be thrown. */
  raise<E extends CpuException>(exception: (site: FaultSite) => E): E {
    return this.#raise(exception(this.#site()))
  }

  /**
   * RESET or INIT: paging off, no translations, registers as table 10-1 of SDM Vol. 3 has them; what a CPU starts with is its machine's `start` all the same. PAT and the
   * protection-key registers are as after RESET, too.
   */
  reset(): void {
    this.abandonCalls()
    this.#load(AT_RESET, 0)
    this.mmu.flushAll()
    this.#pkru = 0
    this.#pkrs = 0
    this.#alignmentCheck = false
    this.cr2 = 0n
    this.interruptFlag = false
    this.cpl = 0
    this.general64.fill(0n)
    this.rip = 0n
    this.rflags = 0
    for (const [number, segment] of SEGMENTS_AT_RESET.entries()) this.segments[number] = segment
    this.ldtr = NO_LDT
    this.msrs = MSRS_AT_RESET
    this.debugRegisters = DEBUG_REGISTERS_AT_RESET
    this.gdtr = NO_TABLE
    this.idtr = NO_TABLE
    this.taskRegister = { ...NO_TABLE, selector: 0 }
    this.mxcsr = MXCSR_AT_RESET
    this.floatingPoint = new FloatingPointState('reset')
    this.pat = PAT_AT_RESET
    this.endbranchTracking = false
  }

  /** Remembers the registers and what the caches hold at this moment. What an executor counts goes on. */
  checkpoint(): Rewind {
    const { cr2, interruptFlag, ldtr, msrs, debugRegisters, gdtr, idtr, taskRegister } = this
    const { pat, mxcsr, endbranchTracking, rip, statusFlags, touchRecorder } = this
    const tables = { ldtr, gdtr, idtr, taskRegister, msrs, debugRegisters }
    const plain = { ...tables, cr2, interruptFlag, pat, mxcsr, endbranchTracking }
    const floatingPoint = new FloatingPointState(this.floatingPoint)
    const general = this.general.slice()
    const segments = this.segments.slice()
    const cpl = this.#cpl
    const controlFlags = this.#controlFlags
    const control = this.#control
    const mode = this.#mode
    const pdptes = this.#pdptes
    const alignmentCheck = this.#alignmentCheck
    const pkru = this.#pkru
    const pkrs = this.#pkrs
    const rewindCalls = this.#functions.checkpoint()
    const rewindMmu = this.mmu.checkpoint()
    return () => {
      Object.assign(this, plain)
      this.floatingPoint = new FloatingPointState(floatingPoint)
      this.rip = rip
      this.statusFlags = statusFlags
      this.touchRecorder = touchRecorder
      this.general.set(general)
      this.segments.splice(0, Infinity, ...segments)
      this.#cpl = cpl
      this.#controlFlags = controlFlags
      this.#control = control
      this.#mode = mode
      this.#pdptes = pdptes
      this.#alignmentCheck = alignmentCheck
      this.#pkru = pkru
      this.#pkrs = pkrs
      rewindCalls()
      rewindMmu()
      this.execution?.translationsChanged()
    }
  }

  /** Forgets the calls that are under way, as a kernel does that will not return to them. */
  abandonCalls(): void {
    this.#functions.abandon()
  }

  /** IN from an 8-bit port. */
  in8(port: number): number {
    return this.machine.ports.in8(port)
  }

  /** IN of 16 bits from a port. */
  in16(port: number): number {
    return this.machine.ports.in16(port)
  }

  /** IN of 32 bits from a port; an unsigned value. */
  in32(port: number): number {
    return this.machine.ports.in32(port)
  }

  /** OUT to an 8-bit port. A write that resets the machine throws {@link MachineReset}. */
  out8(port: number, value: number): void {
    this.#out(port, value, 1)
  }

  /** OUT of 16 bits to a port, as {@link out8}. */
  out16(port: number, value: number): void {
    this.#out(port, value, 2)
  }

  /** OUT of 32 bits to a port, as {@link out8}. */
  out32(port: number, value: number): void {
    this.#out(port, value, 4)
  }

  #out(port: number, value: number, size: 1 | 2 | 4): void {
    const { ports, log } = this.machine
    try {
      if (size === 1) ports.out8(port, value)
      else if (size === 2) ports.out16(port, value)
      else ports.out32(port, value)
    } catch (error) {
      if (error instanceof MachineReset) log.emit({ kind: 'reset', port, value })
      throw error
    }
  }

  #pageFault(high: number, low: number, kind: number): CpuException {
    const address = joinHalves(high, low)
    this.cr2 = address
    const steps = this.machine.log.isRecording ? this.mmu.faultSteps(high, low) : NO_STEPS
    const { errorCode } = this.mmu
    return this.#raise(new PageFault(address, accessOf(kind), errorCode, steps, this.#site()))
  }

  #refusedAddress(reason: string, address: bigint, origin: AccessOrigin): CpuException {
    const Fault = origin.stack === true ? StackFault : GeneralProtection
    return this.#raise(new Fault(reason, address, this.#site()))
  }

  /** SDM Vol. 3, 4.13 (linear-address-space separation): bit 63 tells the supervisor's addresses from the user's. */
  #violatesLass(address: bigint, verb: number, isUser: boolean, isImplicit: boolean): boolean {
    if ((this.efer & Efer.LMA) === 0) return false
    const isUpper = address >> 63n !== 0n
    if (isUser) return isUpper
    if (isUpper) return false
    if (verb === AccessKind.Execute) return true
    return (this.cr4 & Cr4.SMAP) !== 0 && (isImplicit || !this.#alignmentCheck)
  }

  #raise<E extends CpuException>(exception: E): E {
    const fault = exception instanceof PageFault ? exception : undefined
    this.machine.log.emit({
      kind: 'exception',
      cpu: this.id,
      mnemonic: exception.mnemonic,
      message: exception.message,
      address: fault?.address,
      access: fault?.access,
      errorCode: fault?.errorCode,
    })
    return exception
  }

  #site(): FaultSite {
    const { execution } = this
    const ofCode = execution?.isRunning === true ? execution.rip : undefined
    return { cpu: this.id, rip: this.#functions.rip ?? ofCode, cr3: this.cr3 }
  }

  #readSmall(address: bigint, size: 2 | 4, origin: AccessOrigin): number {
    if (offsetInPage(address) + size > PHYSICAL_PAGE) {
      const view = new DataView(this.readBytes(address, size, origin).buffer)
      return size === 2 ? view.getUint16(0, true) : view.getUint32(0, true)
    }
    const physical = this.translate(address, 'read', origin)
    return this.#memory.readByCpu(physical, size)
  }

  #writeSmall(address: bigint, size: 2 | 4, value: number, origin: AccessOrigin): void {
    if (offsetInPage(address) + size > PHYSICAL_PAGE) {
      const view = new DataView(new ArrayBuffer(size))
      if (size === 2) view.setUint16(0, value, true)
      else view.setUint32(0, value, true)
      this.writeBytes(address, new Uint8Array(view.buffer), origin)
      return
    }
    this.#memory.writeByCpu(this.translate(address, 'write', origin), size, value)
  }

  #copyIn(
    address: bigint,
    bytes: Uint8Array,
    access: 'read' | 'execute',
    origin: AccessOrigin,
  ): void {
    const { length } = bytes
    if (offsetInPage(address) + length <= PHYSICAL_PAGE) {
      this.#memory.readBytesByCpu(this.translate(address, access, origin), bytes)
      return
    }
    for (let done = 0; done < length;) {
      const at = address + BigInt(done)
      const count = Math.min(length - done, PHYSICAL_PAGE - offsetInPage(at))
      const part = bytes.subarray(done, done + count)
      this.#memory.readBytesByCpu(this.translate(at, access, origin), part)
      done += count
    }
  }

  get #pcid(): number {
    return (this.cr4 & Cr4.PCIDE) === 0 ? 0 : this.cr3 % (PCID_MASK + 1)
  }

  /** EFER.NXE counts where entries have 64 bits (SDM Vol. 3, 4.6.1). */
  get #hasNoExecute(): boolean {
    return (this.efer & Efer.NXE) !== 0 && (this.cr4 & Cr4.PAE) !== 0
  }

  /** #GP(0) where there is a reason. */
  #refuse(what: string, value: number | bigint, reason: string | undefined): void {
    if (reason === undefined) return
    const bits = BigInt.asUintN(64, BigInt(value))
    throw this.#raise(new GeneralProtection(`${what} (${reason})`, bits, this.#site()))
  }

  #lacksInstruction(message: string): InvalidOpcode {
    return this.#raise(new InvalidOpcode(message, undefined, new Uint8Array(), this.#site()))
  }

  #refuseInvpcid(type: number, pcid: number, address: bigint): string | undefined {
    if (type > 3) return 'there are types 0 to 3'
    if (pcid < 0 || pcid > PCID_MASK) return 'a PCID has 12 bits'
    if (type < 2 && pcid !== 0 && (this.cr4 & Cr4.PCIDE) === 0) return 'CR4.PCIDE is clear'
    const isHeld =
      this.#mode.linearBits === 32
        ? isLinear(this.#mode, address)
        : isCanonical(address, supportedLinearBits(this.machine.features))
    if (type === 0 && !isHeld) return 'its address is not canonical'
    return undefined
  }

  #flushEverything(): void {
    this.mmu.flushAll()
    this.counters.globalFlushes++
  }

  /** Takes over control registers, with the PDPTEs where the change loads them; `value` is what was written. */
  #load(control: ControlState, value: number): void {
    const before = this.#control
    const mode = pagingMode(control.cr0, control.cr4, control.efer)
    if (reloadsPdptes(before, control)) this.#loadPdptes(control.cr3, value)
    this.#control = control
    this.#mode = mode
    if (!mode.rootInRegisters) this.#pdptes = undefined
    this.#configureMmu()
  }

  /** #GP(0) where a present PDPTE has a reserved bit set. */
  #loadPdptes(cr3: number, value = cr3): void {
    const table = cr3 - (cr3 % 32)
    const pdptes = PdpteRegisters.load(this.#memory, table, this.machine.features)
    this.#refuse(
      'the page-directory-pointer table cannot be loaded',
      value,
      pdptes === undefined ? 'a present entry has a reserved bit set' : undefined,
    )
    this.#pdptes = pdptes
  }

  /** The controls of the last configuration where they are the same: most changes of CR4 are of PGE. */
  #permissionControls(): PermissionControls {
    const isLongMode = (this.efer & Efer.LMA) !== 0
    const controls: PermissionControls = {
      writeProtect: (this.cr0 & Cr0.WP) !== 0,
      noExecute: this.#hasNoExecute,
      smep: (this.cr4 & Cr4.SMEP) !== 0,
      smap: (this.cr4 & Cr4.SMAP) !== 0,
      alignmentCheck: this.#alignmentCheck,
      userKeys: isLongMode && (this.cr4 & Cr4.PKE) !== 0 ? this.#pkru : 0,
      supervisorKeys: isLongMode && (this.cr4 & Cr4.PKS) !== 0 ? this.#pkrs : 0,
    }
    const last = this.#controls
    if (last !== undefined && sameControls(last, controls)) return last
    this.#controls = controls
    return controls
  }

  #configureMmu(): void {
    this.mmu.configure({
      mode: this.#mode,
      root: this.#mode.rootInRegisters ? ROOT_IN_REGISTERS : this.root / PHYSICAL_PAGE,
      pcid: this.#pcid,
      pdptes: this.#pdptes,
      globalPages: (this.cr4 & Cr4.PGE) !== 0,
      controls: this.#permissionControls(),
    })
  }

  #reportStaleUse({ high, low, kind, via, held, now, change }: StaleUse): void {
    this.machine.log.emit({
      kind: 'stale-translation',
      cpu: this.id,
      address: joinHalves(high, low),
      access: accessOf(kind),
      via,
      held: describeTranslation(held),
      now: describeTranslation(now),
      changedBy: change?.by,
    })
  }
}

/** SDM Vol. 3, table 10-1. */
const DEBUG_REGISTERS_AT_RESET: readonly bigint[] = [0n, 0n, 0n, 0n, 0n, 0n, 0xffff_0ff0n, 0x400n]
/** Registers after RESET, as far as they are modelled (SDM Vol. 3, table 10-1). */
const AT_RESET: ControlState = {
  cr0: Cr0.ET,
  cr3: 0,
  cr4: 0,
  efer: 0,
  codeSegmentLong: false,
}
/** 64-bit mode with 4-level paging, as firmware hands over. */
const IN_LONG_MODE: ControlState = {
  cr0: CR0_LONG_MODE,
  cr3: 0,
  cr4: Cr4.PAE,
  efer: Efer.LME | Efer.LMA,
  codeSegmentLong: true,
}

/** What a MOV to a control register gets, as an unsigned operand of `bits` bits. */
function registerOperand(value: number | bigint, bits: bigint): bigint {
  const fits =
    (typeof value === 'bigint' || Number.isSafeInteger(value)) &&
    value >= 0 &&
    BigInt(value) >> bits === 0n
  if (fits) return BigInt(value)
  throw new CoreError('CORE_BAD_CONTROL_REGISTER', {
    expected: `a value of ${bits} bits`,
    found: typeof value === 'bigint' ? `0x${value.toString(16)}` : String(value),
  })
}

function describeTranslation({ status, frame, rights }: CurrentTranslation): TranslationNow {
  if (status === WalkStatus.NotPresent) return { status: 'not-present' }
  if (status === WalkStatus.ReservedBit) return { status: 'reserved-bit' }
  return {
    status: 'mapped',
    frame,
    writable: (rights & Rights.Writable) !== 0,
    user: (rights & Rights.User) !== 0,
    executable: (rights & Rights.NoExecute) === 0,
    protectionKey: rights >>> Rights.KeyShift,
  }
}
