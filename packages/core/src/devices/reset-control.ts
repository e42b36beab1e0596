import { MachineReset } from '../machine/reset.ts'
import type { PortDevice } from '../machine/ports.ts'

/** Reset control register (PCH datasheet, port CF9h): bit 2 resets the CPU; 0x6 is a hard reset, 0xe a full one with a power cycle. */
export const RESET_CONTROL_PORT = 0xcf9
/** System control port A of the PS/2: bit 0 resets the CPU, bit 1 is the gate of A20. */
const SYSTEM_CONTROL_PORT = 0x92
/** Status of the keyboard controller when it is read, its command when it is written. */
const KEYBOARD_PORT = 0x64

const RST_CPU = 0x04
const FULL_RST = 0x08
const FAST_RESET = 0x01
/** Commands 0xf0 to 0xff pulse the output lines whose bits are clear; line 0 resets the CPU. */
const PULSE_LINES = 0xf0
const RESET_LINE = 0x01
/** Nothing waits, the self-test was passed, the keyboard is not locked, the last byte was a command. */
const KEYBOARD_STATUS = 0x1c

/** The ports that restart a PC. A write that does throws {@link MachineReset}; one without the bit for it is kept, where the port can be read back. */
export class ResetControl implements PortDevice {
  readonly name = 'reset control'
  readonly ports: readonly number[] = [RESET_CONTROL_PORT, SYSTEM_CONTROL_PORT, KEYBOARD_PORT]
  #resetControl = 0
  #systemControl = 0

  in8(port: number): number {
    if (port === KEYBOARD_PORT) return KEYBOARD_STATUS
    return port === RESET_CONTROL_PORT ? this.#resetControl : this.#systemControl
  }

  out8(port: number, value: number): void {
    if (port === RESET_CONTROL_PORT) {
      if ((value & RST_CPU) !== 0) {
        throw reset((value & FULL_RST) !== 0 ? 'cold' : 'warm', port, value)
      }
      this.#resetControl = value
    } else if (port === SYSTEM_CONTROL_PORT) {
      if ((value & FAST_RESET) !== 0) throw reset('warm', port, value)
      this.#systemControl = value
    } else if (value >= PULSE_LINES && (value & RESET_LINE) === 0) {
      throw reset('warm', port, value)
    }
  }

  fork(): ResetControl {
    const copy = new ResetControl()
    copy.#resetControl = this.#resetControl
    copy.#systemControl = this.#systemControl
    return copy
  }
}

function reset(type: 'cold' | 'warm', port: number, value: number): MachineReset {
  return new MachineReset(type, `0x${value.toString(16)} written to port 0x${port.toString(16)}`)
}
