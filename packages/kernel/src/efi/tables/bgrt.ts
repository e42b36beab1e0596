import type { Cpu } from '@trapdoor/core'
import { Guid, MemoryType } from '@trapdoor/uefi'
import type { Kernel } from '../../kernel.ts'
import { isLinux } from '../../linux-version.ts'
import { efiMemDescLookup, efiMemReserve } from './mem-reserve.ts'

/** "RSD PTR ", and where it has the XSDT's address; "BGRT"; little endian (ACPI 6.5, 5.2.5 and 5.2.23). */
const RSD_PTR = 0x2052_5450_2044_5352n
const RSDP_BYTES = 36
const XSDT_ADDRESS = 24n
const BGRT = 0x5452_4742
const SDT_HEADER_BYTES = 36
const SDT_LENGTH = 4n
const BGRT_BYTES = 56
/** What the fixmap maps at once, less a page: a table that is longer is no XSDT. */
const MOST_XSDT_BYTES = 0x1000
/** "BM", of a bitmap, before its size. */
const BITMAP = 0x4d42
const BITMAP_HEADER_BYTES = 6

/**
 * efi_bgrt_init() (drivers/firmware/efi/efi-bgrt.c; arch/x86/platform/efi up to 4.11) of Linux 4.9 and later: the image that firmware has drawn, which the ACPI table BGRT tells of, is boot-services
 * data and is kept, for who wants to draw it again. Before, it was copied.
 */
export function efiBgrtInit(kernel: Kernel): void {
  if (!isLinux(kernel, '4.9')) return
  const image = findImage(kernel)
  if (image === undefined) return
  const ignore = (reason: string): void => kernel.print(`efi_bgrt: Ignoring BGRT: ${reason}`)
  if (image.version > 1) {
    ignore(`invalid version ${image.version} (expected 1)`)
    return
  }
  if (image.type !== 0) {
    ignore(`invalid image type ${image.type} (expected 0)`)
    return
  }
  if (image.address === 0n) {
    ignore('null image address')
    return
  }
  const start = Number(image.address)
  if (efiMemDescLookup(kernel, start)?.type !== MemoryType.BootServicesData) {
    ignore('invalid image address')
    return
  }
  const { bootCpu: cpu, tables } = kernel
  const header = tables.withEarlyIoremap(cpu, image.address, BITMAP_HEADER_BYTES, (at) => ({
    id: cpu.read16(at),
    bytes: cpu.read32(at + 2n),
  }))
  if (header.id !== BITMAP) {
    ignore(`Incorrect BMP magic number 0x${header.id.toString(16)} (expected 0x4d42)`)
    return
  }
  efiMemReserve(kernel, start, header.bytes)
}

/** What the BGRT says, where there is one: acpi_table_parse() by way of RSDP and XSDT. */
function findImage(
  kernel: Kernel,
): { readonly version: number; readonly type: number; readonly address: bigint } | undefined {
  const { bootCpu: cpu, requireEfi: efi, tables } = kernel
  const rsdp = efi.configurationTable.find(({ guid }) => guid === Guid.ACPI_20)?.table
  if (rsdp === undefined) return undefined
  const map = <T>(address: bigint, bytes: number, use: (at: bigint) => T): T =>
    tables.withEarlyIoremap(cpu, address, bytes, use)
  const xsdt = map(rsdp, RSDP_BYTES, (at) =>
    cpu.read64(at) === RSD_PTR ? cpu.read64(at + XSDT_ADDRESS) : 0n,
  )
  if (xsdt === 0n) return undefined
  const length = map(xsdt, SDT_HEADER_BYTES, (at) => cpu.read32(at + SDT_LENGTH))
  if (length < SDT_HEADER_BYTES || length > MOST_XSDT_BYTES) return undefined
  const entries = map(xsdt, length, (at) => entriesOf(cpu, at, length))
  const found = entries.find((entry) => map(entry, 4, (at) => cpu.read32(at)) === BGRT)
  if (found === undefined) return undefined
  return map(found, BGRT_BYTES, (at) => ({
    version: cpu.read16(at + 36n),
    type: cpu.read8(at + 39n),
    address: cpu.read64(at + 40n),
  }))
}

function entriesOf(cpu: Cpu, xsdt: bigint, length: number): bigint[] {
  const count = Math.floor((length - SDT_HEADER_BYTES) / 8)
  return Array.from({ length: count }, (_, index) =>
    cpu.read64(xsdt + BigInt(SDT_HEADER_BYTES + index * 8)),
  )
}
