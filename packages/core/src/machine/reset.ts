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

/** Reset control register (PCH datasheet, port CF9h): 0x6 hard reset, 0xe full reset. */
export const RESET_CONTROL_PORT = 0xcf9
/** A sleep control port whose write of 0x20 powers the machine off. */
export const POWER_OFF_PORT = 0xb004

/** The ports that end a run. A write to them throws {@link MachineReset}. */
export class ResetControl implements PortDevice {
  readonly name = 'reset control'
  readonly ports: readonly number[] = [RESET_CONTROL_PORT, POWER_OFF_PORT]

  in8(): number {
    return 0
  }

  out8(port: number, value: number): void {
    if (port === POWER_OFF_PORT) throw new MachineReset('shutdown')
    throw new MachineReset((value & 0x08) !== 0 ? 'cold' : 'warm')
  }

  fork(): ResetControl {
    return this
  }
}
