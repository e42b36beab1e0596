import { IoPorts } from '../machine/ports.ts'
import type { Board } from './board.ts'
import { CmosClock } from './cmos-clock.ts'
import { DebugPort } from './debug-port.ts'
import { PciConfiguration } from './pci-configuration.ts'
import { PowerManagement } from './power-management.ts'
import { ResetControl } from './reset-control.ts'

/** What makes one PC's ports differ from another's. */
export interface ChipsetOptions {
  readonly board: Board
  /** Registers of the clock; by default {@link cmosRegisters}'. */
  readonly cmos?: Uint8Array
  /** Whether firmware has a handler in system-management mode: an SMI then ends the run. Default false. */
  readonly hasSmiHandler?: boolean
}

/** The ports of a PC, as far as runtime services touch them. */
export function chipset({ board, cmos, hasSmiHandler = false }: ChipsetOptions): IoPorts {
  const ports = new IoPorts()
  ports.attach(new CmosClock(cmos))
  ports.attach(new PowerManagement(board, hasSmiHandler))
  ports.attach(new PciConfiguration(board))
  ports.attach(new ResetControl())
  ports.attach(new DebugPort())
  return ports
}
