import { Assembler, Register } from '@trapdoor/assembler'
import {
  DEBUG_EXIT_PORT,
  type GuestMachine,
  type GuestOptions,
  loadGuest,
  readMultibootImage,
} from '../src/index.ts'
import { multibootHeader } from './elf-file.ts'

export const LOAD_ADDRESS = 0x10_0000
const HEADER_BYTES = 32

/** A flat Multiboot image at 1 MiB whose 32-bit code is what `emit` emits. */
export function flatImage(emit: (code: Assembler) => void): Uint8Array {
  const code = new Assembler(BigInt(LOAD_ADDRESS + HEADER_BYTES), 32)
  emit(code)
  const header = multibootHeader(0x1_0000, [
    LOAD_ADDRESS,
    LOAD_ADDRESS,
    0,
    0,
    LOAD_ADDRESS + HEADER_BYTES,
  ])
  return Uint8Array.from(Buffer.concat([header, code.assemble()]))
}

/** Writes AL to the exit port. */
export function exitWithAl(code: Assembler): void {
  code.out(DEBUG_EXIT_PORT)
}

/** Sends a text on the first serial port. */
export function say(code: Assembler, text: string): void {
  code.moveImmediate(32, Register.D, 0x3f8)
  for (const letter of text) {
    code.moveImmediate(32, Register.A, letter.charCodeAt(0))
    // OUT DX, AL
    code.raw(0xee)
  }
}

export interface LoadedGuest extends GuestMachine {
  /** What it has sent so far. */
  readonly text: () => string
}

export function loaded(image: Uint8Array, options: Partial<GuestOptions> = {}): LoadedGuest {
  let text = ''
  const guest = loadGuest(readMultibootImage(image, 'guest'), {
    file: 'guest',
    memoryBytes: 16 * 2 ** 20,
    transmit: (byte) => {
      text += String.fromCharCode(byte)
    },
    ...options,
  })
  return { ...guest, text: () => text }
}
