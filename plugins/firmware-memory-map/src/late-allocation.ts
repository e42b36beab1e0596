import type { FirmwareCall } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'

const ANY_PAGES = 0n

/** Takes a page of boot-services data through the boot services table, as an event of a driver does: the map changes, and its key with it. */
export function allocateLate(call: FirmwareCall): void {
  const { bootServicesTable } = call.architecture.tables
  const allocatePages = call.readNatural(
    call.pointer('gBS') + BigInt(bootServicesTable.AllocatePages),
  )
  const memoryAt = call.cpu.rsp - 0x100n
  call.write64(memoryAt, 0n)
  // The variable stays above the frame of the call.
  call.cpu.rsp -= 0x200n
  call.call(allocatePages, ANY_PAGES, BigInt(MemoryType.BootServicesData), 1n, memoryAt)
  call.cpu.rsp += 0x200n
}
