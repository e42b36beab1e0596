/** Every code that {@link CpuError} can carry. */
export type CpuErrorCode = 'CPU_MISSING_INSTRUCTION'

/** The interpreter cannot go on: not an exception of the processor, but something that is missing here. */
export class CpuError extends Error {
  override readonly name: string = 'CpuError'
  readonly code: CpuErrorCode
  readonly expected: string
  readonly found: string
  readonly hint: string | undefined

  constructor(
    code: CpuErrorCode,
    detail: { readonly expected: string; readonly found: string; readonly hint?: string },
  ) {
    super(`expected ${detail.expected}, found ${detail.found}`)
    this.code = code
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
  }
}

/** Machine code came to an instruction that the interpreter does not have; nothing of it was carried out. */
export class MissingInstruction extends CpuError {
  override readonly name = 'MissingInstruction'
  /** The linear address of the instruction. */
  readonly address: bigint
  readonly bytes: Uint8Array
  /** As a disassembler writes it. */
  readonly text: string
  /** The image that the code belongs to. */
  readonly image: string

  constructor(address: bigint, bytes: Uint8Array, text: string, image: string) {
    const hexadecimal = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ')
    super('CPU_MISSING_INSTRUCTION', {
      expected: 'an instruction that is there',
      found: `"${text}" (${hexadecimal}) at 0x${address.toString(16)} in ${image}`,
      hint: 'packages/cpu/README.md lists what is there',
    })
    this.address = address
    this.bytes = bytes
    this.text = text
    this.image = image
  }
}
