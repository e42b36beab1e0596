import type { Cpu } from '../cpu/cpu.ts'

/** What a gate's function gets: the CPU that runs it, and where it was called, which is what position-independent code goes by. */
export interface GateCall {
  readonly cpu: Cpu
  /** The address at which the gate was fetched. */
  readonly rip: bigint
  /** What was passed in registers: nothing outside 64-bit mode, where arguments lie above the return address that RSP points to. */
  readonly args: readonly bigint[]
}

/** A modelled function: it runs when a CPU fetches its gate. What it returns is RAX, of which EAX counts outside 64-bit mode. */
export interface GateFunction {
  /** Name of the function, such as "GetVariable". */
  readonly name: string
  /** The image or program that it belongs to, such as "VariableRuntimeDxe". */
  readonly image: string
  readonly run: (call: GateCall) => bigint
}

/** Bytes of a gate: UD2, the letters "TD", and the number of the function. */
export const GATE_SIZE = 8
const SIGNATURE = [0x0f, 0x0b, 0x54, 0x44] as const
const SIGNATURE_WORD = 0x4454_0b0f

/** The functions that gates in memory can stand for. It only grows; forks of a machine share it. */
export class GateRegistry {
  readonly #functions: GateFunction[] = []

  /** Binds a function and returns the bytes of its gate, to be placed in memory. */
  bind(gate: GateFunction): Uint8Array {
    const bytes = new Uint8Array(GATE_SIZE)
    bytes.set(SIGNATURE)
    new DataView(bytes.buffer).setUint32(4, this.#functions.length, true)
    this.#functions.push(gate)
    return bytes
  }

  /** The function that eight bytes stand for, given as two little-endian words, or undefined where they are no gate. */
  decode(low: number, high: number): GateFunction | undefined {
    return (low | 0) === SIGNATURE_WORD ? this.#functions[high >>> 0] : undefined
  }
}
