import type { Cpu } from '@trapdoor/core'
import {
  type ConfigTableEntry,
  decodeConfigTable,
  decodeMemoryMap,
  decodeUcs2,
  descriptorEnd,
  Guid,
  type MemoryDescriptor,
  getNatural,
  MemoryType,
  type RuntimeServiceName,
  SYSTEM_TABLE_SIGNATURE,
} from '@trapdoor/uefi'
import type { EfiInfo } from '../boot/boot-params.ts'
import type { Kernel } from '../kernel.ts'
import { isLinux } from '../linux-version.ts'
import { e820FromEfi, E820Type, removeE820, sanitizeE820 } from '../memory/e820.ts'
import { readNatural } from './natural.ts'
import type { EfiHandOver } from './strategy.ts'
import { fakeMemmap, softReserve } from './regions/fake-mem.ts'

/** The vendor string's characters that efi_init() prints at most. */
const VENDOR_LENGTH = 99
/** MMIO regions of this size and more are removed from the e820 map: some platforms describe small ones that are no window of a host bridge. */
const LARGE_MMIO_BYTES = 2 ** 18

/** What efi_init() keeps: `efi`, `efi_phys`, `memmap`, and the patch's `phys_runtime`. */
export interface EfiState {
  /** From boot_params: physical addresses and sizes in bytes. */
  readonly info: EfiInfo
  /** The firmware's map as it was handed over, in its order. */
  readonly firmwareMap: readonly MemoryDescriptor[]
  /** What the kernel goes on with: at first the firmware's map. */
  memoryMap: readonly MemoryDescriptor[]
  readonly vendor: string
  /** The revision of EFI that the system table names: major << 16 | minor (`efi.runtime_version`). */
  readonly revision: number
  readonly configurationTable: readonly ConfigTableEntry[]
  /** Where the system table says that its parts are: physical, or what the firmware's converted pointers read as. */
  readonly vendorAddress: bigint
  readonly runtimeAddress: bigint
  readonly configurationTableAddress: bigint
  /** SetVirtualAddressMap as the table had it: physical (`efi_phys.set_virtual_address_map`). */
  readonly setVirtualAddressMap: bigint
  /** Address in bss of the copy of the runtime services table (`phys_runtime`). */
  readonly physicalRuntimeCopy: bigint
  /** Virtual alias of the system table once it is known (`efi.systab` after efi_enter_virtual_mode()). */
  systab: bigint | undefined
  /** Whether this kernel or the one before it has called SetVirtualAddressMap. */
  virtualMode: boolean
  /** Whether there is a memory attributes table that nobody could make sense of. */
  refusesAttributesTable: boolean
  /** What SetVirtualAddressMap failed with. */
  svamStatus: bigint | undefined
}

/**
 * efi_init() of arch/x86/kernel/efi.c, 2.6.35: reads the system table, vendor, configuration tables, runtime table and memory map through early_ioremap(), in this order.
 * Whatever addresses the tables hold are taken for physical ones; those of `handOver`, where there is one, in their place.
 */
export function efiInit(
  kernel: Kernel,
  info: EfiInfo,
  handOver: EfiHandOver | undefined,
): EfiState {
  const { bootCpu: cpu, tables } = kernel
  const read = (at: bigint, bytes: number): DataView =>
    tables.withEarlyIoremap(cpu, at, bytes, (address) => viewOf(cpu.readBytes(address, bytes)))

  const physical = (pointer: bigint): bigint =>
    kernel.strategy?.instance.physicalAddress?.(kernel, pointer) ?? pointer

  const { architecture } = info
  const { tables: layout } = architecture
  const systab = read(BigInt(info.systab), layout.systemTableSize)
  const field = (name: keyof typeof layout.systemTable): bigint =>
    getNatural(architecture, systab, layout.systemTable[name])
  if (systab.getBigUint64(0, true) !== SYSTEM_TABLE_SIGNATURE) {
    kernel.print('EFI: system table signature incorrect!')
  }
  const vendorAddress =
    handOver === undefined ? physical(field('FirmwareVendor')) : BigInt(handOver.vendor)
  const vendor = readVendor(kernel, cpu, vendorAddress)
  const revision = systab.getUint32(8, true)
  kernel.print(`EFI v${revision >>> 16}.${String(revision & 0xffff).padStart(2, '0')} by ${vendor}`)

  const configurationTableAddress =
    handOver === undefined
      ? physical(field('ConfigurationTable'))
      : BigInt(handOver.configurationTable)
  const entries = Number(field('NumberOfTableEntries'))
  const configuration = read(configurationTableAddress, entries * layout.configTableEntrySize)
  const configurationTable = reuseConfig(
    decodeConfigTable(bytesOf(configuration), architecture).map(({ guid, table }) => ({
      guid,
      table: physical(table),
    })),
    handOver?.smbios,
  )
  kernel.print(describeTables(configurationTable))

  const runtimeAddress =
    handOver === undefined ? physical(field('RuntimeServices')) : BigInt(handOver.runtime)
  const runtime = read(runtimeAddress, layout.runtimeServicesTableSize)
  const copy = kernel.image.virtualAddress(kernel.image.staticPages(1))
  cpu.writeBytes(copy, bytesOf(runtime))

  const map = read(BigInt(info.memmap), info.memmapSize)
  const firmwareMap = decodeMemoryMap(bytesOf(map), info.memdescSize)
  const memoryMap = fakeMemmap(firmwareMap, kernel.commandLine.fakeMemory)
  if (kernel.commandLine.addEfiMemmap) {
    kernel.e820 = sanitizeE820([...kernel.e820, ...e820FromEfi(memoryMap)])
  }
  if (isLinux(kernel, '5.5') && !kernel.commandLine.efi.has('nosoftreserve')) {
    kernel.e820 = softReserve(kernel.e820, memoryMap)
  }
  if (isLinux(kernel, '6.2')) removeMmioFromE820(kernel, memoryMap)
  return {
    info,
    firmwareMap,
    memoryMap,
    vendor,
    revision,
    configurationTable,
    vendorAddress,
    runtimeAddress,
    configurationTableAddress,
    setVirtualAddressMap: getNatural(
      architecture,
      runtime,
      layout.runtimeServicesTable.SetVirtualAddressMap,
    ),
    physicalRuntimeCopy: copy,
    systab: undefined,
    virtualMode: handOver !== undefined,
    refusesAttributesTable: false,
    svamStatus: undefined,
  }
}

/**
 * efi_remove_e820_mmio() (arch/x86/platform/efi/efi.c, Linux 6.2 and later, commit 07eab0901ede): large regions of memory-mapped I/O are no longer reserved in the e820 map, so that
 * PCI devices can be put there.
 */
function removeMmioFromE820(kernel: Kernel, map: readonly MemoryDescriptor[]): void {
  for (const [index, descriptor] of map.entries()) {
    if (descriptor.type !== MemoryType.MemoryMappedIO) continue
    const start = descriptor.physicalStart
    const end = descriptorEnd(descriptor)
    if (end - start < LARGE_MMIO_BYTES) continue
    kernel.print(
      `efi: Remove mem${index}: MMIO range=[0x${start.toString(16)}-0x${(end - 1).toString(16)}] from e820 map`,
    )
    kernel.e820 = removeE820(kernel.e820, start, end, E820Type.RESERVED)
  }
}

/**
 * efi_reuse_config() (arch/x86/platform/efi/quirks.c, Linux 3.14 and later): the SMBIOS pointer of the kernel before, which had it before some firmware made it a virtual one.
 */
function reuseConfig(
  entries: readonly ConfigTableEntry[],
  smbios: number | undefined,
): readonly ConfigTableEntry[] {
  if (smbios === undefined || smbios === 0) return entries
  return entries.map((entry) =>
    entry.guid === Guid.SMBIOS ? { guid: entry.guid, table: BigInt(smbios) } : entry,
  )
}

/** dmi_scan_machine(): looks for the SMBIOS anchor where the configuration table says that it is. */
export function dmiScanMachine(kernel: Kernel, efi: EfiState): void {
  const smbios = efi.configurationTable.find((entry) => entry.guid === Guid.SMBIOS)
  if (smbios === undefined) {
    kernel.print('DMI not present or invalid.')
    return
  }
  const { bootCpu: cpu, tables } = kernel
  const anchor = tables.withEarlyIoremap(cpu, smbios.table, 32, (address) => cpu.read32(address))
  kernel.print(anchor === SMBIOS_ANCHOR ? 'SMBIOS present.' : 'DMI not present or invalid.')
}

/** "_SM_", little endian. */
const SMBIOS_ANCHOR = 0x5f4d_535f

/** The address of a service in the copy of the runtime table that efi_init() made, read through the page tables of `cpu`. */
export function physicalFunction(efi: EfiState, cpu: Cpu, service: RuntimeServiceName): bigint {
  const { architecture } = efi.info
  const { [service]: offset } = architecture.tables.runtimeServicesTable
  return readNatural(architecture, cpu, efi.physicalRuntimeCopy + BigInt(offset))
}

/** The address of a service by `efi.systab->runtime->service`, read anew through the page tables of `cpu`, as efi_call_virtN() does. */
export function virtualFunction(
  { architecture }: EfiInfo,
  systab: bigint,
  cpu: Cpu,
  service: RuntimeServiceName,
): bigint {
  const { systemTable, runtimeServicesTable } = architecture.tables
  const read = (address: bigint): bigint => readNatural(architecture, cpu, address)
  const runtime = read(systab + BigInt(systemTable.RuntimeServices))
  return read(runtime + BigInt(runtimeServicesTable[service]))
}

/** Maps two bytes and reads on until a NUL, as efi_init() does: a string that leaves its page is its bad luck. */
function readVendor(kernel: Kernel, cpu: Cpu, address: bigint): string {
  return kernel.tables.withEarlyIoremap(cpu, address, 2, (start) => {
    const bytes: number[] = []
    for (let index = 0; index < VENDOR_LENGTH; index++) {
      const character = cpu.read16(start + BigInt(index * 2))
      if (character === 0) break
      bytes.push(character & 0xff, character >>> 8)
    }
    return decodeUcs2(Uint8Array.from(bytes))
  })
}

function describeTables(entries: readonly ConfigTableEntry[]): string {
  const names = Object.entries(Guid)
  return entries
    .map((entry) => {
      const name = names.find(([, guid]) => guid === entry.guid)?.[0] ?? entry.guid
      return `${name}=0x${entry.table.toString(16)}`
    })
    .join(' ')
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
}
