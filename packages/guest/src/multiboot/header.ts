import { GuestError } from '../error.ts'

/** The Multiboot header, as an operating-system image carries it (Multiboot 0.6.96, 3.1). */
export interface MultibootHeader {
  /** Byte of the file at which it lies. */
  readonly offset: number
  /** Modules have to start at page boundaries. */
  readonly alignsModules: boolean
  /** The image would like a video mode. */
  readonly wantsVideo: boolean
  /** Where the image goes, for one that is not ELF. */
  readonly addresses: AddressFields | undefined
}

/** The fields of the a.out kludge (3.1.3): physical addresses. */
export interface AddressFields {
  /** Where the header itself is loaded to. */
  readonly header: number
  readonly load: number
  /** End of what is loaded from the file, exclusive; 0 for the end of the file. */
  readonly loadEnd: number
  /** End of what is zeroed behind that, exclusive; 0 for nothing. */
  readonly bssEnd: number
  readonly entry: number
}

/** What an image announces itself with. */
export const MULTIBOOT_MAGIC = 0x1bad_b002
/** The header lies in the first so many bytes, at a multiple of 4. */
const SEARCHED_BYTES = 8192
const HEADER_BYTES = 12
const ADDRESS_FIELDS_END = 32

const Flag = { AlignModules: 0x1, MemoryInformation: 0x2, VideoMode: 0x4, Addresses: 0x1_0000 }
/** Bits 15 to 0: what a loader that does not know it must refuse. */
const REQUIREMENTS = 0xffff

/** Finds and reads the header; throws GUEST_NOT_MULTIBOOT and GUEST_BAD_HEADER. */
export function readHeader(bytes: Uint8Array, file: string): MultibootHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const offset = findHeader(view, file)
  const flags = view.getUint32(offset + 4, true)
  const unknown =
    flags & REQUIREMENTS & ~(Flag.AlignModules | Flag.MemoryInformation | Flag.VideoMode)
  if (unknown !== 0) {
    throw new GuestError('GUEST_BAD_HEADER', {
      file,
      offset: offset + 4,
      expected: 'flags of Multiboot 1 (bits 0, 1, 2 and 16)',
      found: `0x${flags.toString(16).padStart(8, '0')}`,
      hint: 'the low 16 flags are requirements: a loader must refuse those that it does not know',
    })
  }
  return {
    offset,
    alignsModules: (flags & Flag.AlignModules) !== 0,
    wantsVideo: (flags & Flag.VideoMode) !== 0,
    addresses: (flags & Flag.Addresses) === 0 ? undefined : readAddresses(view, offset, file),
  }
}

function findHeader(view: DataView, file: string): number {
  let magicAt: number | undefined
  const end = Math.min(view.byteLength, SEARCHED_BYTES) - HEADER_BYTES
  for (let offset = 0; offset <= end; offset += 4) {
    if (view.getUint32(offset, true) !== MULTIBOOT_MAGIC) continue
    const sum =
      MULTIBOOT_MAGIC + view.getUint32(offset + 4, true) + view.getUint32(offset + 8, true)
    if (sum % 2 ** 32 === 0) return offset
    magicAt ??= offset
  }
  if (magicAt !== undefined) {
    throw new GuestError('GUEST_BAD_HEADER', {
      file,
      offset: magicAt + 8,
      expected: 'a checksum that makes the sum of magic, flags and checksum 0',
      found: `0x${view
        .getUint32(magicAt + 8, true)
        .toString(16)
        .padStart(8, '0')}`,
    })
  }
  throw new GuestError('GUEST_NOT_MULTIBOOT', {
    file,
    offset: 0,
    expected: `a Multiboot header (0x${MULTIBOOT_MAGIC.toString(16)}) in the first ${SEARCHED_BYTES} bytes`,
    found: describeFile(view),
    hint: 'only Multiboot 1 images can be run: ELF with such a header, or a flat binary whose header has addresses',
  })
}

function readAddresses(view: DataView, offset: number, file: string): AddressFields {
  if (offset + ADDRESS_FIELDS_END > view.byteLength) {
    throw new GuestError('GUEST_BAD_HEADER', {
      file,
      offset,
      expected: `a header of ${ADDRESS_FIELDS_END} bytes, as its flags announce addresses`,
      found: `the end of the file after ${view.byteLength - offset}`,
    })
  }
  const [header, load, loadEnd, bssEnd, entry] = [12, 16, 20, 24, 28].map((field) =>
    view.getUint32(offset + field, true),
  ) as [number, number, number, number, number]
  return { header, load, loadEnd, bssEnd, entry }
}

/** What a file that is no Multiboot image seems to be. */
function describeFile(view: DataView): string {
  if (view.byteLength === 0) return 'an empty file'
  const magic = view.byteLength < 4 ? 0 : view.getUint32(0, false)
  if (magic === 0x7f45_4c46) return 'an ELF file without one'
  if (magic >>> 16 === 0x4d5a) return 'a DOS or PE executable'
  if (magic >>> 16 === 0x1f8b) return 'a gzip file'
  return `${Math.min(view.byteLength, SEARCHED_BYTES)} bytes without one`
}
