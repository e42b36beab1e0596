/** Every code that {@link UefiError} can carry. */
export type UefiErrorCode =
  | 'UEFI_BAD_STRIDE'
  | 'UEFI_BAD_LENGTH'
  | 'UEFI_BAD_DESCRIPTOR'
  | 'UEFI_BAD_GUID'
  | 'UEFI_BAD_TABLE'
  | 'UEFI_BAD_TIME'
  | 'UEFI_BAD_IMAGE'

/** Bytes or text that are not what the UEFI specification says, where nothing can be made of them. */
export class UefiError extends Error {
  override readonly name = 'UefiError'
  readonly code: UefiErrorCode
  readonly expected: string
  readonly found: string
  readonly hint: string | undefined

  constructor(code: UefiErrorCode, detail: { expected: string; found: string; hint?: string }) {
    super(`expected ${detail.expected}, found ${detail.found}`)
    this.code = code
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
  }
}
