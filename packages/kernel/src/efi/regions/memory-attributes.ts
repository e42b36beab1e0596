import { PAGE_SIZE } from '@trapdoor/core'
import {
  decodeMemoryAttributesTable,
  descriptorEnd,
  Guid,
  isRuntime,
  MemoryAttribute,
  type MemoryAttributesTable,
  type MemoryDescriptor,
  MemoryType,
  UefiError,
} from '@trapdoor/uefi'
import type { Kernel } from '../../kernel.ts'

const HEADER_BYTES = 16

/**
 * efi_memattr_init() (drivers/firmware/efi/memattr.c, Linux 4.9 and later): reads the memory attributes table that the configuration table names, and reserves its pages.
 * Undefined where there is none, or none that can be believed: one of more than three times the bytes of the memory map is ignored (8fbe4c49c0cc, Linux 6.13 and stable kernels
 * from 6.1.120 on). With `size` unchecked the bytes that its header speaks of are reserved all the same, and then there is no way to map them.
 */
export function memattrInit(
  kernel: Kernel,
  size: 'checked' | 'unchecked' = 'checked',
): MemoryAttributesTable | undefined {
  const efi = kernel.requireEfi
  const address = efi.configurationTable.find(
    (entry) => entry.guid === Guid.MEMORY_ATTRIBUTES_TABLE,
  )?.table
  if (address === undefined) return undefined
  const read = (bytes: number): Uint8Array =>
    kernel.tables.withEarlyIoremap(kernel.bootCpu, address, bytes, (at) =>
      kernel.bootCpu.readBytes(at, bytes),
    )
  const header = new DataView(read(HEADER_BYTES).buffer)
  const [version, count, stride] = [0, 4, 8].map((at) => header.getUint32(at, true))
  const entryBytes = count! * stride!
  const isCredible = entryBytes <= 3 * efi.info.memmapSize
  // tbl_size is an unsigned int.
  const bytes = (HEADER_BYTES + entryBytes) % 2 ** 32
  const start = Number(address)
  const reserve = (): void => {
    kernel.allocator.reserve(Math.floor(start / PAGE_SIZE), Math.ceil((start + bytes) / PAGE_SIZE))
  }
  if (!isCredible) {
    if (size === 'unchecked') {
      reserve()
      kernel.print(
        `efi: memattr: Failed to map EFI Memory Attributes table @ 0x${address.toString(16)}`,
      )
      return undefined
    }
    kernel.print(
      `[Firmware Bug]: Corrupted EFI Memory Attributes Table detected! (version == ${version}, desc_size == ${stride}, num_entries == ${count})`,
    )
    return undefined
  }
  let table: MemoryAttributesTable
  try {
    table = decodeMemoryAttributesTable(read(bytes), efi.memoryMap.length)
  } catch (error) {
    if (!(error instanceof UefiError)) throw error
    kernel.print(`efi: memattr: ${error.message}`)
    return undefined
  }
  reserve()
  return table
}

/**
 * efi_memattr_apply_permissions(): calls `update` for each entry that entry_is_valid() lets pass, with its virtual address, and prints why it does not.
 */
export function memattrApplyPermissions(
  kernel: Kernel,
  { entries }: MemoryAttributesTable,
  update: (entry: MemoryDescriptor, rights: { writable: boolean; executable: boolean }) => void,
): void {
  for (const entry of entries) {
    const virtualStart = virtualAddressOf(entry, kernel.requireEfi.memoryMap)
    if (typeof virtualStart === 'string') {
      kernel.print(`efi: memattr: ! ${virtualStart}`)
      continue
    }
    update(
      { ...entry, virtualStart },
      {
        writable: (entry.attribute & MemoryAttribute.RO) === 0n,
        executable: (entry.attribute & MemoryAttribute.XP) === 0n,
      },
    )
  }
}

/** entry_is_valid(): where the entry's part of a region is mapped, or what is wrong with it. */
function virtualAddressOf(
  entry: MemoryDescriptor,
  map: readonly MemoryDescriptor[],
): bigint | string {
  if (
    entry.type !== MemoryType.RuntimeServicesCode &&
    entry.type !== MemoryType.RuntimeServicesData
  ) {
    return 'Entry type should be RuntimeServiceCode/Data'
  }
  for (const region of map) {
    if (!isRuntime(region)) continue
    // No virtual address was given: nothing behind can be found either.
    if (region.virtualStart === 0n && region.physicalStart !== 0) break
    const offset = entry.physicalStart - region.physicalStart
    if (offset < 0 || entry.physicalStart >= descriptorEnd(region)) continue
    if (descriptorEnd(region) < descriptorEnd(entry)) {
      return 'Entry covers multiple EFI memory map regions'
    }
    if (region.type !== entry.type) {
      return 'Entry type deviates from EFI memory map region type'
    }
    return region.virtualStart + BigInt(offset)
  }
  return 'No matching entry found in the EFI memory map'
}
