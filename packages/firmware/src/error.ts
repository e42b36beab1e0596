/** Every code that {@link FirmwareError} can carry. */
export type FirmwareErrorCode =
  | 'FIRMWARE_BAD_QUIRK'
  | 'FIRMWARE_NO_ROOM'
  | 'FIRMWARE_BAD_SETUP'
  | 'FIRMWARE_QUIRK_FAILED'

/** What an error has to say beside its code. */
export interface FirmwareErrorDetail {
  readonly expected: string
  readonly found: string
  readonly hint?: string
  readonly cause?: unknown
}

/** A variant that cannot be built, or a quirk that is broken. What a running firmware does wrong is a machine exception. */
export class FirmwareError extends Error {
  override readonly name = 'FirmwareError'
  readonly code: FirmwareErrorCode
  readonly expected: string
  readonly found: string
  readonly hint: string | undefined

  constructor(code: FirmwareErrorCode, detail: FirmwareErrorDetail) {
    super(`expected ${detail.expected}, found ${detail.found}`, { cause: detail.cause })
    this.code = code
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
  }
}

/** The firmware loops for ever, as edk2's CpuDeadLoop() after an ASSERT: a hang. */
export class FirmwareDeadLoop extends Error {
  override readonly name = 'FirmwareDeadLoop'
  /** What the firmware would have printed last. */
  readonly reason: string
  /** CPU that hangs. */
  readonly cpu: number

  constructor(reason: string, cpu: number) {
    super(`firmware hangs: ${reason}`)
    this.reason = reason
    this.cpu = cpu
  }
}
