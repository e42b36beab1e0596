const RSDP_BYTES = 36
const XSDT_BYTES = 36

/** An ACPI 2.0 root pointer, to be placed at `address` (multiple of 16), and behind it an XSDT that lists no tables (ACPI 6.5, 5.2.5). */
export function encodeAcpi(address: number): Uint8Array {
  const xsdt = 64
  const bytes = new Uint8Array(xsdt + XSDT_BYTES)
  const view = new DataView(bytes.buffer)
  putText(bytes, 0, 'RSD PTR ')
  putText(bytes, 9, 'TRPDR ')
  view.setUint8(15, 2)
  view.setUint32(20, RSDP_BYTES, true)
  view.setBigUint64(24, BigInt(address + xsdt), true)
  view.setUint8(8, checksum(bytes.subarray(0, 20)))
  view.setUint8(32, checksum(bytes.subarray(0, RSDP_BYTES)))
  putText(bytes, xsdt, 'XSDT')
  view.setUint32(xsdt + 4, XSDT_BYTES, true)
  view.setUint8(xsdt + 8, 1)
  putText(bytes, xsdt + 10, 'TRPDR TRAPDOOR')
  view.setUint8(xsdt + 9, checksum(bytes.subarray(xsdt, xsdt + XSDT_BYTES)))
  return bytes
}

/** The byte that makes the sum of all bytes 0 modulo 256. */
export function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff
}

/** Writes ASCII. */
export function putText(bytes: Uint8Array, offset: number, text: string): void {
  bytes.set(Buffer.from(text, 'latin1'), offset)
}
