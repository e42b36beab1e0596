import type { PortDevice } from '../machine/ports.ts'

/** A moment as the clock has it: the year with its century, month and day from 1, the day of the week from 1 for Sunday. */
export interface ClockTime {
  readonly year: number
  readonly month: number
  readonly day: number
  readonly dayOfWeek: number
  readonly hour: number
  readonly minute: number
  readonly second: number
}

/** Ports of the index and of the register that it selects. */
const INDEX_PORT = 0x70
const DATA_PORT = 0x71
/** Registers of the MC146818 (datasheet, "Address Map"), and the century that PCs keep behind them. */
const Register = {
  Second: 0x00,
  Minute: 0x02,
  Hour: 0x04,
  DayOfWeek: 0x06,
  Day: 0x07,
  Month: 0x08,
  Year: 0x09,
  A: 0x0a,
  B: 0x0b,
  C: 0x0c,
  D: 0x0d,
  Century: 0x32,
  /** IBM's PS/2 has the century here. */
  CenturyOfPs2: 0x37,
} as const
const UPDATE_IN_PROGRESS = 0x80
/** 32.768 kHz crystal, 1024 Hz periodic rate. */
const REGISTER_A = 0x26
const Control = { Set: 0x80, UpdateInterrupt: 0x10, Binary: 0x04, Hours24: 0x02 } as const
const VALID_RAM_AND_TIME = 0x80

/** Registers of a clock. */
export const CMOS_REGISTERS = 128

/** Friday, 13 August 2010, 14:39:25: when the patch of the thread was sent. */
const DAY_OF_THE_PATCH: ClockTime = {
  year: 2010,
  month: 8,
  day: 13,
  dayOfWeek: 6,
  hour: 14,
  minute: 39,
  second: 25,
}

/**
 * The real-time clock of a PC, an MC146818 with battery-backed memory. Its time stands still but for what is written, as an emulated machine has no
 * wall clock: no update is ever in progress, and no flag of register C comes up. Port 0x70 cannot be read back: it gives ones, as on QEMU (hw/rtc/mc146818rtc.c).
 */
export class CmosClock implements PortDevice {
  readonly name = 'CMOS RTC'
  readonly ports: readonly number[] = [INDEX_PORT, DATA_PORT]
  readonly #registers: Uint8Array
  #index = 0

  /** A clock with these {@link CMOS_REGISTERS} registers; by default {@link cmosRegisters}'. */
  constructor(registers: Uint8Array = cmosRegisters()) {
    this.#registers = registers.slice()
  }

  in8(port: number): number {
    if (port === INDEX_PORT) return 0xff
    const register = this.#selected()
    const value = this.#registers[register]!
    // Reading the flags clears them.
    if (register === Register.C) this.#registers[register] = 0
    return value
  }

  out8(port: number, value: number): void {
    if (port === INDEX_PORT) {
      this.#index = value & (CMOS_REGISTERS - 1)
      return
    }
    const register = this.#selected()
    if (register === Register.C || register === Register.D) return
    this.#registers[register] = writable(register, value)
  }

  /** A copy of all registers. */
  registers(): Uint8Array {
    return this.#registers.slice()
  }

  fork(): CmosClock {
    const copy = new CmosClock(this.#registers)
    copy.#index = this.#index
    return copy
  }

  #selected(): number {
    return this.#index === Register.CenturyOfPs2 ? Register.Century : this.#index
  }
}

/** What a register becomes: update in progress is nobody's to set, and setting the time switches the interrupt of updates off. */
function writable(register: number, value: number): number {
  if (register === Register.A) return value & ~UPDATE_IN_PROGRESS
  if (register === Register.B && (value & Control.Set) !== 0) {
    return value & ~Control.UpdateInterrupt
  }
  return value
}

/**
 * The registers of a clock that firmware has set up, in 24-hour mode: `time` (default: Friday, 13 August 2010, 14:39:25) in binary (the default) or `bcd`, as the firmware of PCs has it, the battery good,
 * and nothing in the memory behind.
 */
export function cmosRegisters({
  time = DAY_OF_THE_PATCH,
  bcd = false,
}: { readonly time?: ClockTime; readonly bcd?: boolean } = {}): Uint8Array {
  const coded = (value: number): number =>
    bcd ? Math.floor(value / 10) * 16 + (value % 10) : value
  const registers = new Uint8Array(CMOS_REGISTERS)
  registers[Register.Second] = coded(time.second)
  registers[Register.Minute] = coded(time.minute)
  registers[Register.Hour] = coded(time.hour)
  registers[Register.DayOfWeek] = coded(time.dayOfWeek)
  registers[Register.Day] = coded(time.day)
  registers[Register.Month] = coded(time.month)
  registers[Register.Year] = coded(time.year % 100)
  registers[Register.Century] = coded(Math.floor(time.year / 100))
  registers[Register.A] = REGISTER_A
  registers[Register.B] = Control.Hours24 | (bcd ? 0 : Control.Binary)
  registers[Register.D] = VALID_RAM_AND_TIME
  return registers
}
