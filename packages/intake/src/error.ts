/** Every code that {@link IntakeError} can carry. */
export type IntakeErrorCode =
  | 'INTAKE_EMPTY'
  | 'INTAKE_BINARY'
  | 'INTAKE_NO_MAP'
  | 'INTAKE_INCOMPLETE'
  | 'INTAKE_BAD_ENTRY'
  | 'INTAKE_OVERLAP'

/** A text that holds no memory map, or one that cannot be run. */
export class IntakeError extends Error {
  override readonly name = 'IntakeError'
  readonly code: IntakeErrorCode
  readonly file: string
  /** From 1; undefined where the whole file is meant. */
  readonly line: number | undefined
  readonly expected: string
  readonly found: string
  readonly hint: string | undefined

  constructor(
    code: IntakeErrorCode,
    detail: {
      readonly file: string
      readonly line?: number
      readonly expected: string
      readonly found: string
      readonly hint?: string
    },
  ) {
    super(`expected ${detail.expected}, found ${detail.found}`)
    this.code = code
    this.file = detail.file
    this.line = detail.line
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
  }
}
