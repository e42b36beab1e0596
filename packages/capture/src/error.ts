/** Every code that {@link CaptureError} can carry. */
export type CaptureErrorCode =
  | 'CAPTURE_NO_FIRMWARE'
  | 'CAPTURE_NOT_FIRMWARE'
  | 'CAPTURE_NO_VARIABLES'
  | 'CAPTURE_NOT_DRIVER'
  | 'CAPTURE_BAD_OPTION'
  | 'CAPTURE_QEMU_MISSING'
  | 'CAPTURE_QEMU_FAILED'
  | 'CAPTURE_TIMEOUT'
  | 'CAPTURE_REFUSED'
  | 'CAPTURE_SECURE_BOOT'
  | 'CAPTURE_PROTOCOL'
  | 'CAPTURE_INTERRUPTED'
  | 'CAPTURE_COMPILER_MISSING'
  | 'CAPTURE_COMPILER_FAILED'
  | 'CAPTURE_NO_MEMORY'

/** A firmware that could not be captured. */
export class CaptureError extends Error {
  override readonly name = 'CaptureError'
  readonly code: CaptureErrorCode
  readonly expected: string
  readonly found: string
  readonly hint: string | undefined
  /** The file that is wrong. */
  readonly file: string | undefined

  constructor(
    code: CaptureErrorCode,
    detail: {
      readonly expected: string
      readonly found: string
      readonly hint?: string | undefined
      readonly file?: string | undefined
      readonly cause?: unknown
    },
  ) {
    super(
      `expected ${detail.expected}, found ${detail.found}`,
      detail.cause === undefined ? undefined : { cause: detail.cause },
    )
    this.code = code
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
    this.file = detail.file
  }
}
