const ERROR_BIT = 1n << 63n

const ERRORS = {
  LOAD_ERROR: 1n,
  INVALID_PARAMETER: 2n,
  UNSUPPORTED: 3n,
  BAD_BUFFER_SIZE: 4n,
  BUFFER_TOO_SMALL: 5n,
  NOT_READY: 6n,
  DEVICE_ERROR: 7n,
  WRITE_PROTECTED: 8n,
  OUT_OF_RESOURCES: 9n,
  VOLUME_CORRUPTED: 10n,
  VOLUME_FULL: 11n,
  NO_MEDIA: 12n,
  MEDIA_CHANGED: 13n,
  NOT_FOUND: 14n,
  ACCESS_DENIED: 15n,
  NO_RESPONSE: 16n,
  NO_MAPPING: 17n,
  TIMEOUT: 18n,
  NOT_STARTED: 19n,
  ALREADY_STARTED: 20n,
  ABORTED: 21n,
  ICMP_ERROR: 22n,
  TFTP_ERROR: 23n,
  PROTOCOL_ERROR: 24n,
  INCOMPATIBLE_VERSION: 25n,
  SECURITY_VIOLATION: 26n,
  CRC_ERROR: 27n,
  END_OF_MEDIA: 28n,
  END_OF_FILE: 31n,
  INVALID_LANGUAGE: 32n,
  COMPROMISED_DATA: 33n,
  IP_ADDRESS_CONFLICT: 34n,
  HTTP_ERROR: 35n,
} as const

const WARNINGS = {
  WARN_UNKNOWN_GLYPH: 1n,
  WARN_DELETE_FAILURE: 2n,
  WARN_WRITE_FAILURE: 3n,
  WARN_BUFFER_TOO_SMALL: 4n,
  WARN_STALE_DATA: 5n,
  WARN_FILE_SYSTEM: 6n,
  WARN_RESET_REQUIRED: 7n,
} as const

type StatusName = 'SUCCESS' | keyof typeof ERRORS | keyof typeof WARNINGS

/** EFI_STATUS on 64-bit processors: errors have bit 63, warnings do not (UEFI 2.10, appendix D). */
export const EfiStatus: Readonly<Record<StatusName, bigint>> = Object.freeze({
  SUCCESS: 0n,
  ...WARNINGS,
  ...(Object.fromEntries(
    Object.entries(ERRORS).map(([name, code]) => [name, ERROR_BIT | code]),
  ) as Record<keyof typeof ERRORS, bigint>),
})

const NAMES: ReadonlyMap<bigint, string> = new Map(
  Object.entries(EfiStatus).map(([name, status]) => [status, `EFI_${name}`]),
)

/** Whether a status is an error rather than success or a warning. */
export function isEfiError(status: bigint): boolean {
  return (status & ERROR_BIT) !== 0n
}

/** The specification's name of a status, such as "EFI_NOT_FOUND"; hex for one without a name. */
export function efiStatusName(status: bigint): string {
  return NAMES.get(status) ?? `0x${status.toString(16).padStart(16, '0')}`
}
