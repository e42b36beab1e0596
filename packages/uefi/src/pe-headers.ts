/** An image as the headers of its PE file describe it (Microsoft PE and COFF specification). Addresses are relative to its first byte. */
export interface PeHeaders {
  /** IMAGE_FILE_HEADER.Machine, such as 0x8664. */
  readonly machine: number
  /** IMAGE_OPTIONAL_HEADER.Subsystem: 10 to 12 for EFI applications, boot-service drivers, runtime drivers. */
  readonly subsystem: number
  /** Where the headers' own signature begins; what is between the DOS header and there is not used. */
  readonly signature: number
  /** Bytes from the first header to the end of the last section. */
  readonly bytes: number
  readonly sections: readonly PeSection[]
  /** Undefined for an image without one. */
  readonly debugDirectory: { readonly address: number; readonly bytes: number } | undefined
}

/** A section of an image that was loaded. */
export interface PeSection {
  readonly name: string
  readonly address: number
  readonly bytes: number
  readonly executable: boolean
  readonly writable: boolean
}

/** EFI's subsystems. */
const EFI_SUBSYSTEMS: ReadonlySet<number> = new Set([10, 11, 12])
const DOS_SIGNATURE = 0x5a4d
const DOS_HEADER_BYTES = 0x40
const PE_SIGNATURE = 0x4550
const PE32 = 0x10b
const PE32_PLUS = 0x20b
const FILE_HEADER = 4
const OPTIONAL_HEADER = 24
/** The optional header of PE32+ up to the directories, and 16 of these. */
const LONGEST_HEADER = OPTIONAL_HEADER + 112 + 16 * 8
const SECTION_BYTES = 40
const SECTION_NAME_BYTES = 8
const DEBUG_DIRECTORY = 6
const DEBUG_ENTRY_BYTES = 28
const DEBUG_TYPE_CODEVIEW = 2
const MEM_EXECUTE = 0x2000_0000
const MEM_WRITE = 0x8000_0000
/** Where the file's name begins in a CodeView entry, by its signature: PDB 7.0, PDB 2.0, and edk2's for Mach-O. */
const CODEVIEW_NAMES: Readonly<Record<string, number>> = { RSDS: 24, NB10: 16, MTOC: 20 }

/** Reads the headers of an EFI image. `bytes` are its first ones; a page of them is enough for any driver. Undefined where it is none. */
export function decodePeHeaders(bytes: Uint8Array): PeHeaders | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < DOS_HEADER_BYTES || view.getUint16(0, true) !== DOS_SIGNATURE) return undefined
  const signature = view.getUint32(0x3c, true)
  if (signature + LONGEST_HEADER > bytes.length) return undefined
  if (view.getUint32(signature, true) !== PE_SIGNATURE) return undefined
  const optional = signature + OPTIONAL_HEADER
  const magic = view.getUint16(optional, true)
  const subsystem = view.getUint16(optional + 68, true)
  if ((magic !== PE32 && magic !== PE32_PLUS) || !EFI_SUBSYSTEMS.has(subsystem)) {
    return undefined
  }
  const directories = optional + (magic === PE32 ? 96 : 112)
  const debug = directories + DEBUG_DIRECTORY * 8
  const hasDebug =
    view.getUint32(directories - 4, true) > DEBUG_DIRECTORY && view.getUint32(debug + 4, true) > 0
  const table = optional + view.getUint16(signature + FILE_HEADER + 16, true)
  const sections = view.getUint16(signature + FILE_HEADER + 2, true)
  if (table + sections * SECTION_BYTES > bytes.length) return undefined
  return {
    machine: view.getUint16(signature + FILE_HEADER, true),
    subsystem,
    signature,
    bytes: view.getUint32(optional + 56, true),
    sections: Array.from({ length: sections }, (_, index) =>
      decodeSection(bytes, table + index * SECTION_BYTES),
    ),
    debugDirectory: hasDebug
      ? { address: view.getUint32(debug, true), bytes: view.getUint32(debug + 4, true) }
      : undefined,
  }
}

/**
 * The path of the file that an image was linked into, as the CodeView entry of its debug directory has it: edk2 leaves one in images that were not stripped. `read` gives bytes of the
 * loaded image. Undefined where there is none.
 */
export function debugFileName(
  { debugDirectory }: PeHeaders,
  read: (address: number, length: number) => Uint8Array,
): string | undefined {
  if (debugDirectory === undefined) return undefined
  const { address, bytes } = debugDirectory
  for (let at = address; at + DEBUG_ENTRY_BYTES <= address + bytes; at += DEBUG_ENTRY_BYTES) {
    const entry = new DataView(read(at, DEBUG_ENTRY_BYTES).slice().buffer)
    if (entry.getUint32(12, true) !== DEBUG_TYPE_CODEVIEW) continue
    const data = read(entry.getUint32(20, true), entry.getUint32(16, true))
    const start = CODEVIEW_NAMES[String.fromCharCode(...data.subarray(0, 4))]
    if (start === undefined) continue
    const end = data.indexOf(0, start)
    return latin1(data.subarray(start, end === -1 ? data.length : end))
  }
  return undefined
}

function decodeSection(bytes: Uint8Array, at: number): PeSection {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, SECTION_BYTES)
  const name = bytes.subarray(at, at + SECTION_NAME_BYTES)
  const end = name.indexOf(0)
  const flags = view.getUint32(36, true)
  return {
    name: latin1(end === -1 ? name : name.subarray(0, end)),
    address: view.getUint32(12, true),
    bytes: view.getUint32(8, true),
    executable: (flags & MEM_EXECUTE) !== 0,
    writable: (flags & MEM_WRITE) !== 0,
  }
}

function latin1(bytes: Uint8Array): string {
  return new TextDecoder('latin1').decode(bytes)
}
