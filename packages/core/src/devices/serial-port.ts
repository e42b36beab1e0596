import type { PortDevice } from '../machine/ports.ts'

/** I/O address of the first serial port of a PC, COM1. */
export const COM1 = 0x3f8

/** Registers of the UART (PC16550D datasheet, table I). With LCR.DLAB set the first two are the divisor. */
const Register = {
  Data: 0,
  InterruptEnable: 1,
  InterruptIdentification: 2,
  LineControl: 3,
  ModemControl: 4,
  LineStatus: 5,
  ModemStatus: 6,
  Scratch: 7,
} as const
const REGISTERS = 8
const DIVISOR_LATCH_ACCESS = 0x80
const FIFO_ENABLE = 0x01
const FIFOS_ENABLED = 0xc0
const NO_INTERRUPT_PENDING = 0x01
const LOOPBACK = 0x10
const LineStatus = { DataReady: 0x01, TransmitterEmpty: 0x60 } as const
/** Carrier detect, data set ready, clear to send. */
const CABLE_CONNECTED = 0xb0

/**
 * A 16550 UART whose transmitter is always ready and whose line is connected to somebody who only listens. It raises no interrupts, and so identifies none; drivers that poll
 * the line status find all they need. In loopback mode it receives what it sends, and its modem inputs are its outputs (datasheet, 8.6).
 */
export class SerialPort implements PortDevice {
  readonly name: string
  readonly ports: readonly number[]
  readonly #base: number
  readonly #transmit: (byte: number) => void
  #divisor = 12
  #interruptEnable = 0
  #fifoControl = 0
  #lineControl = 0
  #modemControl = 0
  #scratch = 0
  #received: number | undefined

  /** A port at `base` (default: {@link COM1}) that hands each byte it sends to `transmit`. */
  constructor(transmit: (byte: number) => void, base: number = COM1) {
    this.name = `serial port 0x${base.toString(16)}`
    this.ports = Array.from({ length: REGISTERS }, (_, index) => base + index)
    this.#base = base
    this.#transmit = transmit
  }

  in8(port: number): number {
    switch (port - this.#base) {
      case Register.Data:
        return this.#isDivisor ? this.#divisor & 0xff : this.#receive()
      case Register.InterruptEnable:
        return this.#isDivisor ? this.#divisor >>> 8 : this.#interruptEnable
      case Register.InterruptIdentification:
        return NO_INTERRUPT_PENDING | ((this.#fifoControl & FIFO_ENABLE) === 0 ? 0 : FIFOS_ENABLED)
      case Register.LineControl:
        return this.#lineControl
      case Register.ModemControl:
        return this.#modemControl
      case Register.LineStatus:
        return (
          LineStatus.TransmitterEmpty | (this.#received === undefined ? 0 : LineStatus.DataReady)
        )
      case Register.ModemStatus:
        return this.#isLoopback ? loopedBack(this.#modemControl) : CABLE_CONNECTED
      default:
        return this.#scratch
    }
  }

  out8(port: number, value: number): void {
    switch (port - this.#base) {
      case Register.Data:
        if (this.#isDivisor) this.#divisor = (this.#divisor & 0xff00) | value
        else this.#send(value)
        return
      case Register.InterruptEnable:
        if (this.#isDivisor) this.#divisor = (this.#divisor & 0xff) | (value << 8)
        else this.#interruptEnable = value & 0x0f
        return
      case Register.InterruptIdentification:
        this.#fifoControl = value
        return
      case Register.LineControl:
        this.#lineControl = value
        return
      case Register.ModemControl:
        this.#modemControl = value & 0x1f
        return
      case Register.Scratch:
        this.#scratch = value
        return
      default:
      // The status registers are read-only.
    }
  }

  /** The same port in a fork; both send to the same listener. */
  fork(): SerialPort {
    const copy = new SerialPort(this.#transmit, this.#base)
    copy.#divisor = this.#divisor
    copy.#interruptEnable = this.#interruptEnable
    copy.#fifoControl = this.#fifoControl
    copy.#lineControl = this.#lineControl
    copy.#modemControl = this.#modemControl
    copy.#scratch = this.#scratch
    copy.#received = this.#received
    return copy
  }

  get #isDivisor(): boolean {
    return (this.#lineControl & DIVISOR_LATCH_ACCESS) !== 0
  }

  get #isLoopback(): boolean {
    return (this.#modemControl & LOOPBACK) !== 0
  }

  #send(byte: number): void {
    if (this.#isLoopback) this.#received = byte
    else this.#transmit(byte)
  }

  #receive(): number {
    const byte = this.#received ?? 0
    this.#received = undefined
    return byte
  }
}

/** DTR comes back as DSR, RTS as CTS, OUT1 as RI, OUT2 as DCD. */
function loopedBack(modemControl: number): number {
  return (
    ((modemControl & 0x01) << 5) |
    ((modemControl & 0x02) << 3) |
    ((modemControl & 0x04) << 4) |
    ((modemControl & 0x08) << 4)
  )
}
