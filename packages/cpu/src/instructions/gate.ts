import { GATE_SIZE } from '@trapdoor/core'
import type { Operation } from '../decode/block.ts'

export const GATE_BYTES: number = GATE_SIZE
/** UD2 and "TD", with which every gate begins (core's GateRegistry). */
const SIGNATURE: readonly number[] = [0x0f, 0x0b, 0x54, 0x44]

/** Whether bytes begin as a gate does, as far as there are any. */
export function isGatePrefix(bytes: Uint8Array): boolean {
  if (bytes.length === 0) return false
  for (let index = 0; index < Math.min(bytes.length, SIGNATURE.length); index++) {
    if (bytes[index] !== SIGNATURE[index]) return false
  }
  return true
}

/** A call gate: its function runs in place of machine code, and returns as that would. Bytes whose number nobody bound are #UD. */
export function gate(bytes: Uint8Array): Operation {
  const shown = bytes.slice(0, GATE_BYTES)
  const view = new DataView(shown.buffer)
  const low = view.getInt32(0, true)
  const high = view.getInt32(4, true)
  return (_general, execution) => {
    const { cpu } = execution
    const gateFunction = cpu.machine.gates.decode(low, high)
    if (gateFunction === undefined) throw execution.invalidOpcode(shown)
    execution.leaveForGate(gateFunction)
  }
}
