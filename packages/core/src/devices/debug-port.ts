import type { PortDevice } from '../machine/ports.ts'

/** Where the debug builds of OVMF print to, and who else has something to say. */
export const DEBUG_PORT = 0x402
/** What says that somebody listens (OvmfPkg/Library/PlatformDebugLibIoPort; QEMU's isa-debugcon). */
const MAGIC = 0xe9

/** The port that debug builds of OVMF print to. */
export class DebugPort implements PortDevice {
  readonly name = 'debug port'
  readonly ports: readonly number[] = [DEBUG_PORT]
  #text = ''

  /** What was printed so far, a character a byte. */
  get text(): string {
    return this.#text
  }

  in8(): number {
    return MAGIC
  }

  out8(_port: number, value: number): void {
    this.#text += String.fromCharCode(value)
  }

  fork(): DebugPort {
    const copy = new DebugPort()
    copy.#text = this.#text
    return copy
  }
}
