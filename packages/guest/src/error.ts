/** Every code that {@link GuestError} can carry. */
export type GuestErrorCode =
  | 'GUEST_NOT_MULTIBOOT'
  | 'GUEST_BAD_HEADER'
  | 'GUEST_BAD_ELF'
  | 'GUEST_NO_ROOM'
  | 'GUEST_UNREADABLE'
  | 'GUEST_NOT_RUNNABLE'

/** What an error has to say beside its code. */
export interface GuestErrorDetail {
  readonly file: string
  readonly offset?: number
  readonly expected: string
  readonly found: string
  readonly hint?: string
}

/** A file that cannot be started, or not be run to its end. */
export class GuestError extends Error {
  override readonly name = 'GuestError'
  readonly code: GuestErrorCode
  readonly file: string
  /** Byte of the file, from 0, that it is about; undefined where the whole file is meant. */
  readonly offset: number | undefined
  readonly expected: string
  readonly found: string
  readonly hint: string | undefined

  constructor(code: GuestErrorCode, detail: GuestErrorDetail) {
    super(`expected ${detail.expected}, found ${detail.found}`)
    this.code = code
    this.file = detail.file
    this.offset = detail.offset
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
  }
}
