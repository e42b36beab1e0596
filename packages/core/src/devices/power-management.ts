import type { PortDevice } from '../machine/ports.ts'
import { MachineReset } from '../machine/reset.ts'
import { SystemManagementInterrupt } from '../machine/system-management-interrupt.ts'
import { type Board, POWER_MANAGEMENT_BASE } from './board.ts'

/** Offset of PM1a_CNT from {@link POWER_MANAGEMENT_BASE}. */
export const PM1_CONTROL = 4
/** PM1_CNT.SLP_EN: goes to sleep. */
export const SLEEP_ENABLE = 0x2000

const Offset = { Status: 0, Enable: 2, Control: PM1_CONTROL, Timer: 8, End: 12 } as const
/** PM1_CNT.SCI_EN: the hardware is in ACPI mode. */
const SCI_ENABLE = 1
const SLEEP_TYPE_SHIFT = 10
const SLEEP_TYPE_MASK = 7
/** Ticks of 3.579545 MHz that one read takes: about a microsecond, as a cycle of the LPC bus. */
const TICKS_PER_READ = 4
const TIMER_MASK = 0xff_ffff

/** Ports of advanced power management (ICH9 datasheet, APM_CNT and APM_STS): writing the first raises an SMI, the second is a byte for its handler. */
const SMI_COMMAND_PORT = 0xb2
const SMI_DATA_PORT = 0xb3
/** Commands for ACPI mode and for legacy mode, which QEMU's chipsets obey by themselves (hw/acpi/piix4.c, include/hw/acpi/ich9.h). */
const ACPI_COMMANDS: Readonly<Record<Board, { readonly on: number; readonly off: number }>> = {
  pc: { on: 0xf1, off: 0xf0 },
  q35: { on: 0x02, off: 0x03 },
}

/**
 * Power management of a PC's chipset: the fixed hardware of ACPI (ACPI 6, 4.8.3: PM1 event and control blocks, a timer of 24 bits), and the ports that raise an SMI. An emulated machine has no
 * clock, so that the timer goes on when it is read, by the time that a read takes. Going to sleep ends the run, whatever the type of sleep; so does an SMI where firmware has set up a
 * handler in system-management mode, which is not there.
 */
export class PowerManagement implements PortDevice {
  readonly name = 'power management'
  readonly ports: readonly number[]
  readonly #board: Board
  readonly #hasSmiHandler: boolean
  readonly #base: number
  /** PM1_STS, PM1_EN and PM1_CNT, and two bytes that are nothing. */
  readonly #registers: Uint8Array = new Uint8Array(Offset.Timer)
  #ticks = 0
  #smiCommand = 0
  #smiData = 0

  constructor(board: Board, hasSmiHandler: boolean) {
    this.#board = board
    this.#hasSmiHandler = hasSmiHandler
    this.#base = POWER_MANAGEMENT_BASE[board]
    const block = Array.from({ length: Offset.End }, (_, offset) => this.#base + offset)
    this.ports = [...block, SMI_COMMAND_PORT, SMI_DATA_PORT]
  }

  in8(port: number): number {
    if (port === SMI_COMMAND_PORT) return this.#smiCommand
    if (port === SMI_DATA_PORT) return this.#smiData
    return this.#read(port, 1)
  }

  in16(port: number): number {
    return this.#read(port, 2)
  }

  in32(port: number): number {
    return this.#read(port, 4)
  }

  out8(port: number, value: number): void {
    if (port === SMI_DATA_PORT) this.#smiData = value
    else if (port === SMI_COMMAND_PORT) this.#raise(value)
    else this.#write(port - this.#base, value)
  }

  fork(): PowerManagement {
    const copy = new PowerManagement(this.#board, this.#hasSmiHandler)
    copy.#registers.set(this.#registers)
    copy.#ticks = this.#ticks
    copy.#smiCommand = this.#smiCommand
    copy.#smiData = this.#smiData
    return copy
  }

  /** One read of the timer, however wide, sees one time. */
  #read(port: number, size: number): number {
    const offset = port - this.#base
    let value = 0
    if (offset >= Offset.Timer) {
      this.#ticks = (this.#ticks + TICKS_PER_READ) & TIMER_MASK
      value = Math.floor(this.#ticks / 256 ** (offset - Offset.Timer)) % 256 ** size
    } else {
      for (let byte = 0; byte < size; byte++) {
        value += (this.#registers[offset + byte] ?? 0) * 256 ** byte
      }
    }
    return value
  }

  #write(offset: number, value: number): void {
    if (offset >= Offset.Timer) return
    // A status bit is cleared by writing it.
    const isStatus = offset < Offset.Enable
    this.#registers[offset] = isStatus ? this.#registers[offset]! & ~value : value
    const control = value << 8
    if (offset !== Offset.Control + 1 || (control & SLEEP_ENABLE) === 0) return
    const type = (control >>> SLEEP_TYPE_SHIFT) & SLEEP_TYPE_MASK
    const port = (this.#base + Offset.Control).toString(16)
    throw new MachineReset('shutdown', `sleep of type ${type} enabled in PM1a_CNT, port 0x${port}`)
  }

  #raise(command: number): void {
    this.#smiCommand = command
    const { on, off } = ACPI_COMMANDS[this.#board]
    const control = this.#registers[Offset.Control]!
    if (command === on) this.#registers[Offset.Control] = control | SCI_ENABLE
    if (command === off) this.#registers[Offset.Control] = control & ~SCI_ENABLE
    if (this.#hasSmiHandler) throw new SystemManagementInterrupt(command)
  }
}
