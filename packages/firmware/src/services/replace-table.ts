import { sealTable, TABLE_HEADER_SIZE, TableHeader } from '@trapdoor/uefi'
import type { FirmwareCall } from '../quirk/firmware-call.ts'

/** Writes a table back and computes its checksum over what its header says, as edk2's CalculateEfiHdrCrc, however wrong that may be by now. */
export function replaceTable(call: FirmwareCall, address: bigint, bytes: Uint8Array): void {
  call.writeBytes(address, bytes)
  const headerSize = call.read32(address + BigInt(TableHeader.HeaderSize))
  if (headerSize < TABLE_HEADER_SIZE) return
  const sealed = sealTable(call.readBytes(address, headerSize))
  call.writeBytes(address, sealed.subarray(0, TABLE_HEADER_SIZE))
}
