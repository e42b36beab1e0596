/** Every code that {@link AssemblerError} can carry. */
export type AssemblerErrorCode =
  | 'ASSEMBLER_LABEL_TWICE'
  | 'ASSEMBLER_NO_LABEL'
  | 'ASSEMBLER_TOO_LONG'
  | 'ASSEMBLER_NO_REGISTER'

/** Code was asked for that cannot be assembled. */
export class AssemblerError extends Error {
  override readonly name = 'AssemblerError'
  readonly code: AssemblerErrorCode
  readonly expected: string
  readonly found: string
  readonly hint: string | undefined

  constructor(
    code: AssemblerErrorCode,
    detail: { readonly expected: string; readonly found: string; readonly hint?: string },
  ) {
    super(`expected ${detail.expected}, found ${detail.found}`)
    this.code = code
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
  }
}
