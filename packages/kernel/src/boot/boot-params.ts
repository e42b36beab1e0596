import { type Architecture, ARCHITECTURES } from '@trapdoor/uefi'
import { E820_MAX, type E820Entry, type E820Type } from '../memory/e820.ts'

/** `struct efi_info` of the zero page (arch/x86/include/asm/bootparam.h): where the loader left the firmware's tables. Physical addresses and bytes. */
export interface EfiInfo {
  /** What the firmware is built for, as the loader's signature says. */
  readonly architecture: Architecture
  readonly systab: number
  readonly memmap: number
  readonly memmapSize: number
  readonly memdescSize: number
  readonly memdescVersion: number
}

/** What a loader tells a kernel in the zero page. */
export interface BootParams {
  /** Undefined where the machine was not booted by EFI, or the loader kept silent about it. */
  readonly efi: EfiInfo | undefined
  readonly e820: readonly E820Entry[]
  readonly commandLine: string
  /** Physical address of the first setup_data node, 0 for none. */
  readonly setupData: number
}

/** Bytes of the zero page and of the command line that follows it. */
const BOOT_PARAMS_SIZE = 4096
const COMMAND_LINE_SIZE = 2048
/** Bytes of `struct boot_params` (Documentation/arch/x86/zero-page.rst) and of the command line behind it. */
export const BOOT_PARAMS_BYTES: number = BOOT_PARAMS_SIZE + COMMAND_LINE_SIZE

const OFFSET = {
  efiInfo: 0x1c0,
  e820Entries: 0x1e8,
  commandLinePointer: 0x228,
  setupData: 0x250,
  e820Table: 0x2d0,
} as const
const E820_ENTRY_SIZE = 20
/** "EL64" and "EL32", little endian. */
const LOADER_SIGNATURE: Readonly<Record<Architecture['name'], number>> = {
  x64: 0x3436_4c45,
  ia32: 0x3233_4c45,
}

/** The zero page with the command line behind it, to be placed at physical address `at`. Entries beyond the {@link E820_MAX}th are lost, as in the field. */
export function encodeBootParams(params: BootParams, at: number): Uint8Array {
  const bytes = new Uint8Array(BOOT_PARAMS_BYTES)
  const view = new DataView(bytes.buffer)
  if (params.efi !== undefined) {
    const { efi } = params
    const [systab, systabHigh] = halves(efi.systab)
    const [memmap, memmapHigh] = halves(efi.memmap)
    const words = [
      LOADER_SIGNATURE[efi.architecture.name],
      systab,
      efi.memdescSize,
      efi.memdescVersion,
      memmap,
      efi.memmapSize,
      systabHigh,
      memmapHigh,
    ]
    for (const [index, word] of words.entries()) {
      view.setUint32(OFFSET.efiInfo + index * 4, word, true)
    }
  }
  const entries = params.e820.slice(0, E820_MAX)
  view.setUint8(OFFSET.e820Entries, entries.length)
  for (const [index, entry] of entries.entries()) {
    const offset = OFFSET.e820Table + index * E820_ENTRY_SIZE
    view.setBigUint64(offset, BigInt(entry.start), true)
    view.setBigUint64(offset + 8, BigInt(entry.end - entry.start), true)
    view.setUint32(offset + 16, entry.type, true)
  }
  view.setUint32(OFFSET.commandLinePointer, at + BOOT_PARAMS_SIZE, true)
  view.setBigUint64(OFFSET.setupData, BigInt(params.setupData), true)
  const text = new TextEncoder().encode(params.commandLine)
  bytes.set(text.subarray(0, COMMAND_LINE_SIZE - 1), BOOT_PARAMS_SIZE)
  return bytes
}

/** The low and the high 32 bits of an address. */
function halves(value: number): readonly [low: number, high: number] {
  return [value % 2 ** 32, Math.floor(value / 2 ** 32)]
}

/** Reads what {@link encodeBootParams} wrote. */
export function decodeBootParams(bytes: Uint8Array): BootParams {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const word = (index: number): number => view.getUint32(OFFSET.efiInfo + index * 4, true)
  const architecture = Object.values(ARCHITECTURES).find(
    ({ name }) => LOADER_SIGNATURE[name] === word(0),
  )
  const e820: E820Entry[] = []
  for (let index = 0; index < view.getUint8(OFFSET.e820Entries); index++) {
    const offset = OFFSET.e820Table + index * E820_ENTRY_SIZE
    const start = Number(view.getBigUint64(offset, true))
    e820.push({
      start,
      end: start + Number(view.getBigUint64(offset + 8, true)),
      type: view.getUint32(offset + 16, true) as E820Type,
    })
  }
  const line = bytes.subarray(BOOT_PARAMS_SIZE)
  return {
    efi:
      architecture === undefined
        ? undefined
        : {
            architecture,
            systab: word(1) + word(6) * 2 ** 32,
            memdescSize: word(2),
            memdescVersion: word(3),
            memmap: word(4) + word(7) * 2 ** 32,
            memmapSize: word(5),
          },
    e820,
    commandLine: new TextDecoder().decode(line.subarray(0, line.indexOf(0))),
    setupData: Number(view.getBigUint64(OFFSET.setupData, true)),
  }
}
