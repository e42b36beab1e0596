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
import { isLinux } from '../../linux-version.ts'
import { ramRanges } from '../../memory/e820.ts'

const HEADER_BYTES = 16

/**
 * efi_memattr_init() (drivers/firmware/efi/memattr.c; on x86 it is called from Linux 4.11 on): reads the memory attributes table that the configuration table names, and reserves its pages.
 * Undefined where there is none, or none that can be believed: one of a version above `lastVersion` is left alone, as kexec may have overwritten it; so is one of more than three times the bytes of the
 * memory map (8fbe4c49c0cc, Linux 6.13 and later). With `size` unchecked the bytes that its header speaks of are reserved all the same, as a signed 32-bit number, and then there is no way to map
 * them (Linux 6.1.192 and 6.12.117 still do so).
 */
export function memattrInit(
  kernel: Kernel,
  {
    size = 'checked',
    lastVersion = 2,
  }: { readonly size?: 'checked' | 'unchecked'; readonly lastVersion?: number } = {},
): MemoryAttributesTable | undefined {
  const efi = kernel.requireEfi
  const address = efi.configurationTable.find(
    (entry) => entry.guid === Guid.MEMORY_ATTRIBUTES_TABLE,
  )?.table
  if (address === undefined) return undefined
  const refuse = (message: string): undefined => {
    efi.refusesAttributesTable = true
    kernel.print(message)
    return undefined
  }
  const read = (bytes: number): Uint8Array =>
    kernel.tables.withEarlyIoremap(kernel.bootCpu, address, bytes, (at) =>
      kernel.bootCpu.readBytes(at, bytes),
    )
  const header = new DataView(read(HEADER_BYTES).buffer)
  const version = header.getUint32(0, true)
  const count = header.getUint32(4, true)
  const stride = header.getUint32(8, true)
  if (version > lastVersion) {
    // Linux prints it as a signed number.
    return refuse(`efi: memattr: Unexpected EFI Memory Attributes table version ${version | 0}`)
  }
  if (size === 'checked' && count * stride > 3 * efi.info.memmapSize) {
    return refuse(
      `[Firmware Bug]: Corrupted EFI Memory Attributes Table detected! (version == ${version}, desc_size == ${stride}, num_entries == ${count})`,
    )
  }
  const start = Number(address)
  const tblSize = (HEADER_BYTES + Math.imul(count, stride)) | 0
  const end = tblSize < 0 ? END_OF_MEMORY : start + tblSize
  kernel.allocator.reserve(Math.floor(start / PAGE_SIZE), Math.ceil(end / PAGE_SIZE))
  // memremap() gives nothing that is RAM only in part, and ioremap() nothing that wraps.
  const ram = ramRanges(kernel.e820).filter((range) => range.start < end && start < range.end)
  if (tblSize < 0 || ram.some((range) => start < range.start || range.end < end)) {
    return refuse(
      `efi: memattr: Failed to map EFI Memory Attributes table @ 0x${address.toString(16)}`,
    )
  }
  try {
    return decodeMemoryAttributesTable(read(tblSize), Infinity)
  } catch (error) {
    if (!(error instanceof UefiError)) throw error
    return refuse(`efi: memattr: ${error.message}`)
  }
}

/** One more than any physical address. */
const END_OF_MEMORY = 2 ** 52

/**
 * efi_memattr_apply_permissions(): calls `update` for each entry that entry_is_valid() lets pass, with its virtual address, and prints why it does not. It ends with the first
 * entry that `update` says it could not apply. Linux up to 5.12 let no entry pass that protects nothing; 5.14 does.
 */
export function memattrApplyPermissions(
  kernel: Kernel,
  { entries }: MemoryAttributesTable,
  update: (
    entry: MemoryDescriptor,
    rights: { writable: boolean; executable: boolean },
  ) => 'applied' | 'failed',
): void {
  const protects = MemoryAttribute.RO | MemoryAttribute.XP
  const wantsProtection = isLinux(kernel, '4.11') && !isLinux(kernel, '5.13')
  for (const entry of entries) {
    if (wantsProtection && (entry.attribute & protects) === 0n) {
      kernel.print('efi: memattr: ! Entry attributes invalid: RO and XP bits both cleared')
      continue
    }
    const virtualStart = virtualAddressOf(entry, kernel.requireEfi.memoryMap)
    if (typeof virtualStart === 'string') {
      kernel.print(`efi: memattr: ! ${virtualStart}`)
      continue
    }
    const rights = {
      writable: (entry.attribute & MemoryAttribute.RO) === 0n,
      executable: (entry.attribute & MemoryAttribute.XP) === 0n,
    }
    if (update({ ...entry, virtualStart }, rights) === 'failed') return
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
