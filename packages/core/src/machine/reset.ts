import type { PortDevice } from './ports.ts'

/** The machine was reset: nothing that ran goes on. It is thrown by the write to the reset port. */
export class MachineReset extends Error {
  override readonly name = 'MachineReset'
  /** `cold` and `warm` restart, `shutdown` powers off. */
  readonly type: 'cold' | 'warm' | 'shutdown'

  constructor(type: 'cold' | 'warm' | 'shutdown') {
    super(`machine reset (${type})`)
    this.type = type
  }
}

/** Reset control register (PCH datasheet, port CF9h): bit 2 resets the CPU; 0x6 is a hard reset, 0xe a full one with a power cycle. */
export const RESET_CONTROL_PORT = 0xcf9
/** A sleep control register (ACPI 6, 4.8.3.7), whose bit 5 (SLP_EN) powers the machine off. */
export const POWER_OFF_PORT = 0xb004
const RST_CPU = 0x04
const FULL_RST = 0x08
const SLP_EN = 0x20

/** The ports that end a run. A write that resets throws {@link MachineReset}; one without the bit that starts it does nothing. */
export class ResetControl implements PortDevice {
  readonly name = 'reset control'
  readonly ports: readonly number[] = [RESET_CONTROL_PORT, POWER_OFF_PORT]

  in8(): number {
    return 0
  }

  out8(port: number, value: number): void {
    if (port === POWER_OFF_PORT) {
      if ((value & SLP_EN) !== 0) throw new MachineReset('shutdown')
    } else if ((value & RST_CPU) !== 0) {
      throw new MachineReset((value & FULL_RST) !== 0 ? 'cold' : 'warm')
    }
  }

  fork(): ResetControl {
    return this
  }
}
