import type { Operation } from '../decode/block.ts'

/** Bytes that are no instruction: #UD. */
export function invalidOpcode(bytes: Uint8Array): Operation {
  const shown = bytes.slice(0, 8)
  return (_general, execution) => {
    throw execution.invalidOpcode(shown)
  }
}

/** An instruction that the processor has and the interpreter lacks. */
export function missingInstruction(text: string, bytes: Uint8Array): Operation {
  return (_general, execution) => {
    throw execution.missingInstruction(text, bytes)
  }
}
