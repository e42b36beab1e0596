/** Every code that {@link CoreError} can carry. */
export type CoreErrorCode =
  | 'CORE_NOT_CANONICAL'
  | 'CORE_BAD_PHYSICAL_ADDRESS'
  | 'CORE_MISALIGNED'
  | 'CORE_BAD_RANGE'
  | 'CORE_ALREADY_MAPPED'
  | 'CORE_NOT_MAPPED'
  | 'CORE_NOT_SPLITTABLE'
  | 'CORE_NOT_MERGEABLE'
  | 'CORE_NO_FRAME'
  | 'CORE_NOT_APPLICABLE'
  | 'CORE_MODE_MISMATCH'
  | 'CORE_BAD_CONTROL_REGISTER'
  | 'CORE_BAD_MEMORY_TYPE'
  | 'CORE_NO_GATE'
  | 'CORE_DEVICE_OVERLAP'
  | 'CORE_NOT_MODELLED'

/** What an error has to say beside its code. */
export interface ErrorDetail {
  readonly expected: string
  readonly found: string
  readonly hint?: string
}

/** The machine was used in a way that no hardware could carry out; hardware faults are {@link CpuException}s. */
export class CoreError extends Error {
  override readonly name = 'CoreError'
  readonly code: CoreErrorCode
  readonly expected: string
  readonly found: string
  readonly hint: string | undefined

  constructor(code: CoreErrorCode, detail: ErrorDetail) {
    super(`expected ${detail.expected}, found ${detail.found}`)
    this.code = code
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
  }
}
