/** A number as snapshots have it in strings. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}

/** Bytes as hexadecimal digits. */
export function hexBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
