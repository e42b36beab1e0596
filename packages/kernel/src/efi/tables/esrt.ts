import { descriptorEnd, Guid, isRuntime, MemoryType } from '@trapdoor/uefi'
import type { Kernel } from '../../kernel.ts'
import { isLinux } from '../../linux-version.ts'
import { efiMemDescLookup, efiMemReserve } from './mem-reserve.ts'

/** EFI_SYSTEM_RESOURCE_TABLE (UEFI 2.10, 23.4): count, maximum, version, and behind them entries. */
const HEADER_BYTES = 16
const VERSION = 8n
const ENTRY_BYTES = 40
const MOST_ENTRIES = 128

/**
 * efi_esrt_init() (drivers/firmware/efi/esrt.c, Linux 4.2 and later), in setup_arch() before boot services are reserved: looks at the table of the firmware's updatable parts that the
 * configuration table names, and reserves its memory, which is boot-services data by the specification. Up to 4.8 that keeps all of the region from being freed; see {@link efiMemReserve}.
 */
export function efiEsrtInit(kernel: Kernel): void {
  if (!isLinux(kernel, '4.2')) return
  const { bootCpu: cpu, requireEfi: efi, tables } = kernel
  const address = efi.configurationTable.find(({ guid }) => guid === Guid.ESRT)?.table
  if (address === undefined) return
  const start = Number(address)
  const region = efiMemDescLookup(kernel, start)
  const isHeld =
    region !== undefined &&
    (isRuntime(region) ||
      region.type === MemoryType.BootServicesData ||
      region.type === MemoryType.RuntimeServicesData)
  if (!isHeld) {
    kernel.print('esrt: ESRT header is not in the memory map.')
    return
  }
  const room = descriptorEnd(region) - start
  if (room < HEADER_BYTES) {
    kernel.print(
      `esrt: ESRT header doesn't fit on single memory map entry. (size: ${HEADER_BYTES} max: ${room})`,
    )
    return
  }
  const { count, version } = tables.withEarlyIoremap(cpu, address, HEADER_BYTES, (at) => ({
    count: cpu.read32(at),
    version: cpu.read64(at + VERSION),
  }))
  if (version !== 1n) {
    kernel.print(`esrt: Unsupported ESRT version ${version}.`)
    return
  }
  if (count > MOST_ENTRIES) {
    kernel.print(`esrt: ESRT says fw_resource_count has very large value ${count}.`)
    return
  }
  const bytes = HEADER_BYTES + count * ENTRY_BYTES
  if (room < bytes) {
    kernel.print(
      `esrt: ESRT does not fit on single memory map entry (size: ${HEADER_BYTES} max: ${room})`,
    )
    return
  }
  const end = start + bytes
  kernel.print(`esrt: Reserving ESRT space from ${hex(start)} to ${hex(end)}.`)
  if (region.type === MemoryType.BootServicesData || !isLinux(kernel, '4.19')) {
    efiMemReserve(kernel, start, bytes)
  }
}

function hex(address: number): string {
  return `0x${address.toString(16).padStart(16, '0')}`
}
