import type { Architecture } from './architecture.ts'
import { UefiError } from './error.ts'

/** IMAGE_FILE_HEADER.Machine (UEFI 2.10, 2.1.1). */
export const PE_MACHINES: Readonly<Record<Architecture['name'], number>> = {
  x64: 0x8664,
  ia32: 0x14c,
}

/** IMAGE_OPTIONAL_HEADER.Subsystem of an application (UEFI 2.10, 2.1.1). */
const SUBSYSTEM_EFI_APPLICATION = 10

/** A section of a PE image: whole pages in memory, no two of them in the same. */
export interface PeApplicationSection {
  /** At most eight ASCII characters. */
  readonly name: string
  /** Bytes from the image's base, a multiple of {@link PE_SECTION_ALIGNMENT}. */
  readonly address: number
  /** Bytes in memory. Those beyond `contents` are zero. */
  readonly size: number
  readonly contents: Uint8Array
  readonly access: 'read-execute' | 'read-write'
}

/** A UEFI application as a PE32+ or PE32 image, without imports, relocations and debug information. */
export interface PeApplication {
  readonly architecture: Architecture['name']
  /** Where the image would like to be; bytes, a multiple of 64 KiB. */
  readonly imageBase: number
  /** Bytes from the image's base. */
  readonly entryPoint: number
  /** In the order of addresses. */
  readonly sections: readonly PeApplicationSection[]
}

/** Sections begin on pages, in the file as in memory, so that firmware may protect them apart. */
export const PE_SECTION_ALIGNMENT = 0x1000

const PE_HEADER = 0x80
const COFF_HEADER_SIZE = 24
const SECTION_HEADER_SIZE = 40
const DATA_DIRECTORIES = 16
/** Executable, line numbers and symbols stripped, addresses beyond 2 GiB or a 32-bit machine. */
const CHARACTERISTICS: Readonly<Record<Architecture['name'], number>> = { x64: 0x2e, ia32: 0x10e }
/** Code, execute, read; initialized data, read, write. */
const SECTION_FLAGS = { 'read-execute': 0x6000_0020, 'read-write': 0xc000_0040 } as const

/**
 * The file of an image ("Microsoft Portable Executable and Common Object File Format Specification", 8.3). Without relocations it says that it may be loaded anywhere, so its code has to be
 * position-independent. Throws UEFI_BAD_IMAGE where sections overlap or do not begin on a page.
 */
export function encodePeApplication(image: PeApplication): Uint8Array {
  const { sections } = image
  const isWide = image.architecture === 'x64'
  const optionalHeaderSize = (isWide ? 112 : 96) + DATA_DIRECTORIES * 8
  const headers = aligned(
    PE_HEADER + COFF_HEADER_SIZE + optionalHeaderSize + sections.length * SECTION_HEADER_SIZE,
  )
  checkSections(sections, headers)
  const placed = placeInFile(sections, headers)
  const last = sections.at(-1)!
  const bytes = new Uint8Array(placed.at(-1)!.offset + aligned(last.contents.length))
  const view = new DataView(bytes.buffer)
  const ascii = (at: number, text: string): void => bytes.set(Buffer.from(text, 'latin1'), at)

  ascii(0, 'MZ')
  view.setUint32(0x3c, PE_HEADER, true)
  ascii(PE_HEADER, 'PE\0\0')
  view.setUint16(PE_HEADER + 4, PE_MACHINES[image.architecture], true)
  view.setUint16(PE_HEADER + 6, sections.length, true)
  view.setUint16(PE_HEADER + 20, optionalHeaderSize, true)
  view.setUint16(PE_HEADER + 22, CHARACTERISTICS[image.architecture], true)

  const optional = PE_HEADER + COFF_HEADER_SIZE
  const sizeOf = (access: PeApplicationSection['access']): number =>
    sections.reduce((sum, each) => sum + (each.access === access ? aligned(each.size) : 0), 0)
  view.setUint16(optional, isWide ? 0x20b : 0x10b, true)
  view.setUint32(optional + 4, sizeOf('read-execute'), true)
  view.setUint32(optional + 8, sizeOf('read-write'), true)
  view.setUint32(optional + 16, image.entryPoint, true)
  view.setUint32(optional + 20, sections[0]!.address, true)
  if (isWide) view.setBigUint64(optional + 24, BigInt(image.imageBase), true)
  else view.setUint32(optional + 28, image.imageBase, true)
  view.setUint32(optional + 32, PE_SECTION_ALIGNMENT, true)
  view.setUint32(optional + 36, PE_SECTION_ALIGNMENT, true)
  view.setUint32(optional + 56, last.address + aligned(last.size), true)
  view.setUint32(optional + 60, headers, true)
  view.setUint16(optional + 68, SUBSYSTEM_EFI_APPLICATION, true)
  view.setUint32(optional + (isWide ? 108 : 92), DATA_DIRECTORIES, true)

  for (const [index, { section, offset }] of placed.entries()) {
    const header = optional + optionalHeaderSize + index * SECTION_HEADER_SIZE
    ascii(header, section.name)
    view.setUint32(header + 8, section.size, true)
    view.setUint32(header + 12, section.address, true)
    view.setUint32(header + 16, aligned(section.contents.length), true)
    view.setUint32(header + 20, offset, true)
    view.setUint32(header + 36, SECTION_FLAGS[section.access], true)
    bytes.set(section.contents, offset)
  }
  return bytes
}

function placeInFile(
  sections: readonly PeApplicationSection[],
  headers: number,
): { readonly section: PeApplicationSection; readonly offset: number }[] {
  let end = headers
  return sections.map((section) => {
    const offset = end
    end += aligned(section.contents.length)
    return { section, offset }
  })
}

function checkSections(sections: readonly PeApplicationSection[], headers: number): void {
  let free = headers
  for (const { name, address, size, contents } of sections) {
    const isFit = address >= free && address % PE_SECTION_ALIGNMENT === 0 && contents.length <= size
    if (!isFit || name.length > 8) {
      throw new UefiError('UEFI_BAD_IMAGE', {
        expected: `sections on pages of their own from 0x${headers.toString(16)} on, each with a name of up to 8 characters and room for its contents`,
        found: `"${name}" at 0x${address.toString(16)}, ${size} bytes`,
      })
    }
    free = address + aligned(size)
  }
  if (sections.length === 0) {
    throw new UefiError('UEFI_BAD_IMAGE', { expected: 'a section', found: 'none' })
  }
}

function aligned(size: number): number {
  return Math.ceil(size / PE_SECTION_ALIGNMENT) * PE_SECTION_ALIGNMENT
}
