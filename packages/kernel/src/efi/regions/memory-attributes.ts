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
 * Undefined where there is none, or none that can be believed.
 */
export function memattrInit(kernel: Kernel): MemoryAttributesTable | undefined {
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
  const count = header.getUint32(4, true)
  // Of a table with a count that nobody believes, no more than the header is read.
  const isCredible = count <= 3 * efi.memoryMap.length
  const bytes = HEADER_BYTES + (isCredible ? count * header.getUint32(8, true) : 0)
  let table: MemoryAttributesTable
  try {
    table = decodeMemoryAttributesTable(read(bytes), efi.memoryMap.length)
  } catch (error) {
    if (!(error instanceof UefiError)) throw error
    kernel.print(`efi: memattr: ${error.message}`)
    return undefined
  }
  const start = Number(address)
  kernel.allocator.reserve(Math.floor(start / PAGE_SIZE), Math.ceil((start + bytes) / PAGE_SIZE))
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
