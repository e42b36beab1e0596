import { checksum, putText } from './acpi.ts'

const ANCHOR_BYTES = 31
const INTERMEDIATE = 16
const STRUCTURES = 32
const SMBIOS_BYTES = STRUCTURES + 6

/** An SMBIOS 2.7 entry point, to be placed at `address` below 4 GiB, and behind it the end-of-table structure (DSP0134, 5.2.1). */
export function encodeSmbios(address: number): Uint8Array {
  const bytes = new Uint8Array(SMBIOS_BYTES)
  const view = new DataView(bytes.buffer)
  putText(bytes, 0, '_SM_')
  bytes.set([ANCHOR_BYTES, 2, 7], 5)
  view.setUint16(8, 6, true)
  putText(bytes, INTERMEDIATE, '_DMI_')
  view.setUint16(22, 6, true)
  view.setUint32(24, (address + STRUCTURES) >>> 0, true)
  view.setUint16(28, 1, true)
  bytes[30] = 0x27
  bytes.set([127, 4], STRUCTURES)
  bytes[21] = checksum(bytes.subarray(INTERMEDIATE, ANCHOR_BYTES))
  bytes[4] = checksum(bytes.subarray(0, ANCHOR_BYTES))
  return bytes
}
