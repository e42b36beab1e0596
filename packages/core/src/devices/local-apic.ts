import type { MemoryDevice } from '../memory/memory-device.ts'
import { InterruptBits } from './interrupt-bits.ts'

/** Physical address of the APIC registers after RESET (SDM Vol. 3, 11.4.1). */
export const LOCAL_APIC_ADDRESS = 0xfee0_0000
/** Bits of IA32_APIC_BASE (SDM Vol. 3, 11.4.4 and 11.12.1). */
export const ApicBase = { BootProcessor: 0x100, X2Apic: 0x400, Enable: 0x800 } as const
/** The first of the MSRs that are APIC registers in x2APIC mode, register n at this plus n (SDM Vol. 3, table 11-6). */
export const X2APIC_MSRS = 0x800

/** Registers by their offset, divided by 16 (SDM Vol. 3, table 11-1). */
const Register = {
  Id: 0x02,
  Version: 0x03,
  TaskPriority: 0x08,
  ArbitrationPriority: 0x09,
  ProcessorPriority: 0x0a,
  EndOfInterrupt: 0x0b,
  LogicalDestination: 0x0d,
  DestinationFormat: 0x0e,
  SpuriousVector: 0x0f,
  InService: 0x10,
  TriggerMode: 0x18,
  Request: 0x20,
  ErrorStatus: 0x28,
  CommandLow: 0x30,
  CommandHigh: 0x31,
  LvtTimer: 0x32,
  LvtError: 0x37,
  InitialCount: 0x38,
  CurrentCount: 0x39,
  DivideConfiguration: 0x3e,
  SelfIpi: 0x3f,
} as const
/** Timer, thermal, performance, LINT0, LINT1 and error, with the bits that each can hold (SDM Vol. 3, figure 11-8). */
const LVT_BITS: ReadonlyMap<number, number> = new Map([
  [0x32, 0x7_00ff],
  [0x33, 0x1_07ff],
  [0x34, 0x1_07ff],
  [0x35, 0x1_a7ff],
  [0x36, 0x1_a7ff],
  [0x37, 0x1_00ff],
])
const LVT_MASKED = 0x1_0000
/** Integrated APIC with six LVT entries (SDM Vol. 3, 11.4.8). */
const VERSION = 0x0005_0014
const SOFTWARE_ENABLE = 0x100
const SPURIOUS_BITS = 0x3ff
const ErrorBit = { SendIllegalVector: 0x20, ReceiveIllegalVector: 0x40, IllegalRegister: 0x80 }
const TimerMode = { OneShot: 0, Periodic: 1 } as const
const DeliveryMode = { Fixed: 0, LowestPriority: 1, Smi: 2, Nmi: 4, Init: 5, StartUp: 6 } as const
const Shorthand = { None: 0, Self: 1, AllIncludingSelf: 2, AllExcludingSelf: 3 } as const
const FLAT_MODEL = 0xf
const BROADCAST = 0xff
const X2APIC_BROADCAST = 0xffff_ffff
/** Vectors below are the processor's. */
const FIRST_LEGAL_VECTOR = 16

/** What a local APIC has to do with. */
export interface LocalApicOptions {
  /** Initial APIC ID. Default 0. */
  readonly id?: number
  /** Ticks of the clock that drives the timer, which never runs backwards. */
  readonly clock: () => number
  /** Told of an NMI for this processor. */
  readonly onNmi?: () => void
  /** Told of a level-triggered interrupt that the processor has ended. */
  readonly onEndOfInterrupt?: (vector: number) => void
}

/**
 * The local APIC of a processor that is alone: registers in memory (xAPIC) or as MSRs (x2APIC), priorities, interrupts to itself, and the timer (SDM Vol. 3, chapter 11). Interprocessor interrupts
 * that are meant for others reach nobody; INIT and start-up IPIs, which a running processor can only send to others, do nothing.
 */
export class LocalApic implements MemoryDevice {
  readonly name = 'local APIC'
  readonly start: number = LOCAL_APIC_ADDRESS
  readonly end: number = LOCAL_APIC_ADDRESS + 0x1000
  /** Told when an interrupt may have become pending, or the timer may owe one at another time than before. */
  onChange: (() => void) | undefined
  readonly #options: LocalApicOptions
  readonly #initialId: number
  readonly #request: InterruptBits = new InterruptBits()
  readonly #inService: InterruptBits = new InterruptBits()
  readonly #triggerMode: InterruptBits = new InterruptBits()
  #base = LOCAL_APIC_ADDRESS + (ApicBase.Enable | ApicBase.BootProcessor)
  #id: number
  #taskPriority = 0
  #logicalDestination = 0
  #destinationFormat = 0xffff_ffff
  #spuriousVector = 0xff
  #errors = 0
  #errorStatus = 0
  #commandLow = 0
  #commandHigh = 0
  readonly #lvt: Map<number, number> = new Map()
  #divideConfiguration = 0
  #initialCount = 0
  /** Clock at which the counter was loaded. */
  #loadedAt = 0

  constructor(options: LocalApicOptions) {
    this.#options = options
    this.#initialId = options.id ?? 0
    this.#id = this.#initialId
    this.#reset()
  }

  /** IA32_APIC_BASE, without the address bits above 31, which are 0. */
  get apicBase(): number {
    return this.#base
  }

  /**
   * WRMSR to IA32_APIC_BASE. Returns whether the value can be taken: reserved bits, and steps that table 11-5 of SDM Vol. 3 does not have (from xAPIC straight to x2APIC is one, x2APIC back to
   * xAPIC is none), are #GP(0). Switching off resets the APIC. The registers cannot be moved: another address is refused too.
   */
  writeApicBase(value: bigint): boolean {
    if (value >> 32n !== 0n) return false
    const base = Number(value)
    const known = ApicBase.BootProcessor | ApicBase.X2Apic | ApicBase.Enable
    if ((base & ~known) >>> 0 !== LOCAL_APIC_ADDRESS) return false
    const isEnabled = (base & ApicBase.Enable) !== 0
    const isX2Apic = (base & ApicBase.X2Apic) !== 0
    if (isX2Apic && !isEnabled) return false
    if (this.isX2Apic && isEnabled && !isX2Apic) return false
    if (!this.isEnabled && isX2Apic) return false
    if (this.isEnabled && !isEnabled) this.#reset()
    this.#base = base
    return true
  }

  get isEnabled(): boolean {
    return (this.#base & ApicBase.Enable) !== 0
  }

  get isX2Apic(): boolean {
    return (this.#base & ApicBase.X2Apic) !== 0
  }

  /** CR8: bits 7 to 4 of the task priority. */
  get taskPriorityClass(): number {
    return this.#taskPriority >>> 4
  }

  set taskPriorityClass(value: number) {
    this.#taskPriority = (value & 0xf) << 4
  }

  /** Asks for an interrupt of this processor, as a device does. A vector below 16 is an error that the APIC notes. */
  request(vector: number, trigger: 'edge' | 'level' = 'edge'): void {
    if (vector < FIRST_LEGAL_VECTOR) {
      this.#noteError(ErrorBit.ReceiveIllegalVector)
      return
    }
    if ((this.#spuriousVector & SOFTWARE_ENABLE) === 0) return
    this.#request.set(vector)
    if (trigger === 'level') this.#triggerMode.set(vector)
    else this.#triggerMode.clear(vector)
    this.onChange?.()
  }

  /** The vector that interrupts the processor as soon as it lets itself be interrupted, or -1. */
  pendingVector(): number {
    this.#runTimer()
    const vector = this.#request.highest()
    return vector >>> 4 > this.#processorPriority() >>> 4 ? vector : -1
  }

  /** The processor takes the vector that {@link pendingVector} gave. */
  acknowledge(vector: number): void {
    this.#request.clear(vector)
    this.#inService.set(vector)
  }

  /** The clock at which the timer will ask for its next interrupt, or Infinity. */
  nextTimerInterrupt(): number {
    const lvt = this.#lvtOf(Register.LvtTimer)
    if (this.#initialCount === 0 || (lvt & LVT_MASKED) !== 0) return Infinity
    return this.#loadedAt + this.#initialCount * this.#divider()
  }

  read(offset: number, size: 1 | 2 | 4): number {
    if (!this.isEnabled || this.isX2Apic) return 2 ** (size * 8) - 1
    const value = (offset & 0xf) > 3 ? 0 : (this.#readRegister(offset >>> 4) ?? this.#illegal())
    return size === 4 ? value >>> 0 : (value >>> ((offset & 3) * 8)) & (2 ** (size * 8) - 1)
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    if (!this.isEnabled || this.isX2Apic) return
    // Registers are written whole (SDM Vol. 3, 11.4.1): what other writes do is undefined, here nothing.
    if (size !== 4 || (offset & 0xf) !== 0) return
    const register = offset >>> 4
    if (register === Register.CommandHigh) this.#commandHigh = value & 0xff00_0000
    else if (register === Register.Id) this.#id = value >>> 24
    else if (register === Register.LogicalDestination)
      this.#logicalDestination = value & 0xff00_0000
    else if (register === Register.DestinationFormat) this.#destinationFormat = value | 0x0fff_ffff
    else if (register === Register.SelfIpi || !this.#writeRegister(register, value)) this.#illegal()
    this.onChange?.()
  }

  /** RDMSR of an x2APIC register; undefined where that is #GP(0). */
  readMsr(index: number): bigint | undefined {
    if (!this.isX2Apic) return undefined
    const register = index - X2APIC_MSRS
    if (register === Register.CommandLow) {
      return (BigInt(this.#commandHigh >>> 0) << 32n) | BigInt(this.#commandLow >>> 0)
    }
    if (NOT_READABLE_AS_MSR.has(register)) return undefined
    const value = this.#readRegister(register)
    return value === undefined ? undefined : BigInt(value >>> 0)
  }

  /** WRMSR to an x2APIC register. Returns whether that is allowed; else it is #GP(0). */
  writeMsr(index: number, value: bigint): boolean {
    if (!this.isX2Apic) return false
    const register = index - X2APIC_MSRS
    if (register === Register.CommandLow) {
      this.#commandHigh = Number(value >> 32n)
      return this.#writeRegister(register, Number(BigInt.asUintN(32, value)))
    }
    if (value >> 32n !== 0n || NOT_WRITABLE_AS_MSR.has(register)) return false
    const low = Number(value)
    if (ZERO_ONLY.has(register) && low !== 0) return false
    const holds = MSR_BITS.get(register) ?? LVT_BITS.get(register)
    if (holds !== undefined && (low & ~holds) !== 0) return false
    return this.#writeRegister(register, low)
  }

  /** The same APIC for a fork; clock and listeners are those of the original. */
  fork(): LocalApic {
    const copy = new LocalApic(this.#options)
    copy.#request.copyFrom(this.#request)
    copy.#inService.copyFrom(this.#inService)
    copy.#triggerMode.copyFrom(this.#triggerMode)
    copy.#base = this.#base
    copy.#id = this.#id
    copy.#taskPriority = this.#taskPriority
    copy.#logicalDestination = this.#logicalDestination
    copy.#destinationFormat = this.#destinationFormat
    copy.#spuriousVector = this.#spuriousVector
    copy.#errors = this.#errors
    copy.#errorStatus = this.#errorStatus
    copy.#commandLow = this.#commandLow
    copy.#commandHigh = this.#commandHigh
    for (const [register, value] of this.#lvt) copy.#lvt.set(register, value)
    copy.#divideConfiguration = this.#divideConfiguration
    copy.#initialCount = this.#initialCount
    copy.#loadedAt = this.#loadedAt
    return copy
  }

  /** SDM Vol. 3, 11.4.7.1. */
  #reset(): void {
    this.#request.clearAll()
    this.#inService.clearAll()
    this.#triggerMode.clearAll()
    this.#id = this.#initialId
    this.#taskPriority = 0
    this.#logicalDestination = 0
    this.#destinationFormat = 0xffff_ffff
    this.#spuriousVector = 0xff
    this.#errors = 0
    this.#errorStatus = 0
    this.#commandLow = 0
    this.#commandHigh = 0
    for (const register of LVT_BITS.keys()) this.#lvt.set(register, LVT_MASKED)
    this.#divideConfiguration = 0
    this.#initialCount = 0
  }

  /** A register that both modes have, or undefined. */
  #readRegister(register: number): number | undefined {
    if (register >= Register.InService && register < Register.InService + 8) {
      return this.#inService.word(register - Register.InService)
    }
    if (register >= Register.TriggerMode && register < Register.TriggerMode + 8) {
      return this.#triggerMode.word(register - Register.TriggerMode)
    }
    if (register >= Register.Request && register < Register.Request + 8) {
      this.#runTimer()
      return this.#request.word(register - Register.Request)
    }
    if (LVT_BITS.has(register)) return this.#lvtOf(register)
    switch (register) {
      case Register.Id:
        return this.isX2Apic ? this.#initialId : this.#id << 24
      case Register.Version:
        return VERSION
      case Register.TaskPriority:
        return this.#taskPriority
      case Register.ArbitrationPriority:
        return 0
      case Register.ProcessorPriority:
        return this.#processorPriority()
      case Register.EndOfInterrupt:
        return 0
      case Register.LogicalDestination:
        return this.isX2Apic ? this.#x2ApicLogicalId() : this.#logicalDestination
      case Register.DestinationFormat:
        return this.#destinationFormat
      case Register.SpuriousVector:
        return this.#spuriousVector
      case Register.ErrorStatus:
        return this.#errorStatus
      case Register.CommandLow:
        return this.#commandLow
      case Register.CommandHigh:
        return this.#commandHigh
      case Register.InitialCount:
        return this.#initialCount
      case Register.CurrentCount:
        return this.#currentCount()
      case Register.DivideConfiguration:
        return this.#divideConfiguration
      default:
        return undefined
    }
  }

  /** Writes a register that both modes write alike; returns false where there is none. */
  #writeRegister(register: number, value: number): boolean {
    const lvtBits = LVT_BITS.get(register)
    if (lvtBits !== undefined) {
      this.#writeLvt(register, value & lvtBits)
      return true
    }
    switch (register) {
      case Register.TaskPriority:
        this.#taskPriority = value & 0xff
        return true
      case Register.EndOfInterrupt:
        this.#endInterrupt()
        return true
      case Register.SpuriousVector:
        this.#writeSpuriousVector(value & SPURIOUS_BITS)
        return true
      case Register.ErrorStatus:
        this.#errorStatus = this.#errors
        this.#errors = 0
        return true
      case Register.CommandLow:
        this.#commandLow = value & COMMAND_BITS
        this.#send()
        return true
      case Register.InitialCount:
        this.#runTimer()
        this.#initialCount = value >>> 0
        this.#loadedAt = this.#options.clock()
        return true
      case Register.DivideConfiguration:
        this.#divideConfiguration = value & 0xb
        return true
      case Register.SelfIpi:
        this.#requestOrRefuse(value & 0xff)
        return true
      default:
        return false
    }
  }

  #lvtOf(register: number): number {
    return this.#lvt.get(register)!
  }

  /** While the APIC is disabled by software, LVT entries stay masked (SDM Vol. 3, 11.4.7.2). */
  #writeLvt(register: number, value: number): void {
    if (register === Register.LvtTimer) this.#runTimer()
    const isDisabled = (this.#spuriousVector & SOFTWARE_ENABLE) === 0
    this.#lvt.set(register, isDisabled ? value | LVT_MASKED : value)
  }

  #writeSpuriousVector(value: number): void {
    this.#spuriousVector = value
    if ((value & SOFTWARE_ENABLE) !== 0) return
    for (const [register, entry] of this.#lvt) this.#lvt.set(register, entry | LVT_MASKED)
  }

  #endInterrupt(): void {
    const vector = this.#inService.highest()
    if (vector < 0) return
    this.#inService.clear(vector)
    if (this.#triggerMode.has(vector)) this.#options.onEndOfInterrupt?.(vector)
  }

  /** SDM Vol. 3, 11.8.3.1. */
  #processorPriority(): number {
    const inService = Math.max(this.#inService.highest(), 0)
    return this.#taskPriority >>> 4 >= inService >>> 4 ? this.#taskPriority : inService & 0xf0
  }

  /** Carries out the interrupt command (SDM Vol. 3, 11.6.1). */
  #send(): void {
    const command = this.#commandLow
    if (!this.#isOwnDestination(command)) return
    const mode = (command >>> 8) & 7
    if (mode === DeliveryMode.Fixed || mode === DeliveryMode.LowestPriority) {
      this.#requestOrRefuse(command & 0xff)
    } else if (mode === DeliveryMode.Nmi) {
      this.#options.onNmi?.()
    }
  }

  #requestOrRefuse(vector: number): void {
    if (vector < FIRST_LEGAL_VECTOR) this.#noteError(ErrorBit.SendIllegalVector)
    else this.request(vector)
  }

  #isOwnDestination(command: number): boolean {
    const shorthand = (command >>> 18) & 3
    if (shorthand !== Shorthand.None) return shorthand !== Shorthand.AllExcludingSelf
    const isLogical = ((command >>> 11) & 1) === 1
    const destination = this.isX2Apic ? this.#commandHigh >>> 0 : this.#commandHigh >>> 24
    if (destination === (this.isX2Apic ? X2APIC_BROADCAST : BROADCAST)) return true
    return isLogical ? this.#matchesLogically(destination) : destination === this.#ownId()
  }

  #ownId(): number {
    return this.isX2Apic ? this.#initialId : this.#id
  }

  /** SDM Vol. 3, 11.6.2.2 and 11.12.10.2. */
  #matchesLogically(destination: number): boolean {
    if (this.isX2Apic) {
      const own = this.#x2ApicLogicalId()
      return destination >>> 16 === own >>> 16 && (destination & own & 0xffff) !== 0
    }
    const own = this.#logicalDestination >>> 24
    if (this.#destinationFormat >>> 28 === FLAT_MODEL) return (destination & own) !== 0
    return destination >>> 4 === own >>> 4 && (destination & own & 0xf) !== 0
  }

  #x2ApicLogicalId(): number {
    return ((this.#initialId >>> 4) << 16) | (1 << (this.#initialId & 0xf))
  }

  #noteError(error: number): void {
    this.#errors |= error
    const lvt = this.#lvtOf(Register.LvtError)
    if ((lvt & LVT_MASKED) === 0) this.request(lvt & 0xff)
  }

  #illegal(): number {
    this.#noteError(ErrorBit.IllegalRegister)
    return 0
  }

  /** Divide configuration: bits 3, 1 and 0 (SDM Vol. 3, figure 11-10). */
  #divider(): number {
    const code = ((this.#divideConfiguration >>> 1) & 4) | (this.#divideConfiguration & 3)
    return code === 7 ? 1 : 2 << code
  }

  #currentCount(): number {
    this.#runTimer()
    if (this.#initialCount === 0) return 0
    const passed = Math.floor((this.#options.clock() - this.#loadedAt) / this.#divider())
    return Math.max(this.#initialCount - passed, 0)
  }

  /** Lets the timer ask for the interrupt that it owes since it was last looked at. */
  #runTimer(): void {
    if (this.#initialCount === 0) return
    const period = this.#initialCount * this.#divider()
    const passed = this.#options.clock() - this.#loadedAt
    if (passed < period) return
    const lvt = this.#lvtOf(Register.LvtTimer)
    if (((lvt >>> 17) & 3) === TimerMode.Periodic) {
      this.#loadedAt += Math.floor(passed / period) * period
    } else {
      this.#initialCount = 0
    }
    if ((lvt & LVT_MASKED) === 0) this.request(lvt & 0xff)
  }
}

/** What the low half of the interrupt command holds: vector, delivery mode, destination mode, level, trigger, shorthand. */
const COMMAND_BITS = 0xc_cfff
const NOT_READABLE_AS_MSR: ReadonlySet<number> = new Set([
  Register.EndOfInterrupt,
  Register.DestinationFormat,
  Register.CommandHigh,
  Register.SelfIpi,
  Register.ArbitrationPriority,
])
const NOT_WRITABLE_AS_MSR: ReadonlySet<number> = new Set([
  Register.Id,
  Register.Version,
  Register.LogicalDestination,
  Register.DestinationFormat,
  Register.CommandHigh,
])
const ZERO_ONLY: ReadonlySet<number> = new Set([Register.EndOfInterrupt, Register.ErrorStatus])
/** Bits of the registers that have reserved ones (SDM Vol. 3, table 11-6). */
const MSR_BITS: ReadonlyMap<number, number> = new Map([
  [Register.TaskPriority, 0xff],
  [Register.SpuriousVector, SPURIOUS_BITS],
  [Register.DivideConfiguration, 0xb],
  [Register.SelfIpi, 0xff],
])
