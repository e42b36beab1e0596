/** Every code that {@link HarnessError} can carry. */
export type HarnessErrorCode =
  | 'HARNESS_BAD_PLUGIN'
  | 'HARNESS_PLUGIN_THREW'
  | 'HARNESS_PLUGIN_NOT_FOUND'
  | 'HARNESS_DUPLICATE_NAME'
  | 'HARNESS_CONFIG_NOT_FOUND'
  | 'HARNESS_CONFIG_SYNTAX'
  | 'HARNESS_BAD_CONFIG'
  | 'HARNESS_UNKNOWN_NAME'
  | 'HARNESS_BAD_ARGUMENT'
  | 'HARNESS_BAD_CASE_ID'
  | 'HARNESS_BAD_SCENARIO'
  | 'HARNESS_NO_MEMORY_MAP'
  | 'HARNESS_UNREADABLE_FILE'
  | 'HARNESS_UNWRITABLE_FILE'
  | 'HARNESS_BAD_RESULTS'

/** What an error has to say beside its code. */
export interface HarnessErrorDetail {
  readonly expected: string
  readonly found: string
  readonly hint?: string | undefined
  /** The file that is wrong. */
  readonly file?: string | undefined
  /** Line in that file, from 1. */
  readonly line?: number | undefined
  readonly cause?: unknown
}

/** A plugin, a configuration or a file of results is not what it has to be. What a case does wrong is a finding, never this. */
export class HarnessError extends Error {
  override readonly name = 'HarnessError'
  readonly code: HarnessErrorCode
  readonly expected: string
  readonly found: string
  readonly hint: string | undefined
  readonly file: string | undefined
  readonly line: number | undefined

  constructor(code: HarnessErrorCode, detail: HarnessErrorDetail) {
    super(
      `expected ${detail.expected}, found ${detail.found}`,
      detail.cause === undefined ? undefined : { cause: detail.cause },
    )
    this.code = code
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
    this.file = detail.file
    this.line = detail.line
  }
}
