/** Every code that {@link SnapshotError} can carry. */
export type SnapshotErrorCode =
  | 'SNAPSHOT_NOT_FOUND'
  | 'SNAPSHOT_DAMAGED'
  | 'SNAPSHOT_BAD_CONTENT'
  | 'SNAPSHOT_FOLDER_THERE'
  | 'SNAPSHOT_UNWRITABLE'

/** A snapshot, or a recording of calls, that cannot be used. */
export class SnapshotError extends Error {
  override readonly name = 'SnapshotError'
  readonly code: SnapshotErrorCode
  readonly file: string
  readonly expected: string
  /** With the place in the file, such as "vectors[3].rax". */
  readonly found: string
  readonly hint: string | undefined

  constructor(
    code: SnapshotErrorCode,
    detail: {
      readonly file: string
      readonly expected: string
      readonly found: string
      readonly hint?: string | undefined
      readonly cause?: unknown
    },
  ) {
    super(
      `expected ${detail.expected}, found ${detail.found}`,
      detail.cause === undefined ? undefined : { cause: detail.cause },
    )
    this.code = code
    this.file = detail.file
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
  }
}
