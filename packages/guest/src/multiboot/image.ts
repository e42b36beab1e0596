import { GuestError } from '../error.ts'
import { isElf, readElf } from './elf.ts'
import { type AddressFields, readHeader } from './header.ts'

/** Bytes that go to memory, and zeros behind them. */
export interface LoadSegment {
  /** Physical address. */
  readonly address: number
  /** Bytes in memory: what {@link bytes} does not fill is zero. */
  readonly size: number
  readonly bytes: Uint8Array
}

/** An operating-system image, as a Multiboot loader sees it. */
export interface MultibootImage {
  readonly segments: readonly LoadSegment[]
  /** Physical address of the first instruction. */
  readonly entry: number
  readonly alignsModules: boolean
  /** The image would like a video mode, which a machine with a serial port alone cannot give. */
  readonly wantsVideo: boolean
}

const LIMIT = 2 ** 32

/**
 * Reads an image by the Multiboot Specification, version 0.6.96: the addresses of its header where it has some, else those of ELF. `file` is what errors call it. Throws
 * GUEST_NOT_MULTIBOOT, GUEST_BAD_HEADER and GUEST_BAD_ELF.
 */
export function readMultibootImage(bytes: Uint8Array, file: string): MultibootImage {
  const header = readHeader(bytes, file)
  const { alignsModules, wantsVideo } = header
  const { segments, entry } =
    header.addresses === undefined
      ? readElfOf(bytes, file, header.offset)
      : readFlat(bytes, file, header.offset, header.addresses)
  for (const { address, size } of segments) {
    if (address + size <= LIMIT) continue
    throw new GuestError('GUEST_BAD_HEADER', {
      file,
      expected: 'segments below 4 GiB, where a 32-bit loader can put them',
      found: `0x${size.toString(16)} bytes at 0x${address.toString(16)}`,
      hint: 'an image that runs at high virtual addresses is linked with physical addresses (AT) below',
    })
  }
  return { segments, entry, alignsModules, wantsVideo }
}

function readElfOf(
  bytes: Uint8Array,
  file: string,
  headerOffset: number,
): Pick<MultibootImage, 'segments' | 'entry'> {
  if (isElf(bytes)) return readElf(bytes, file)
  throw new GuestError('GUEST_BAD_HEADER', {
    file,
    offset: headerOffset + 4,
    expected: 'flag 16 and addresses, in an image that is not ELF',
    found: 'neither',
  })
}

/** Multiboot 0.6.96, 3.1.3. */
function readFlat(
  bytes: Uint8Array,
  file: string,
  headerOffset: number,
  { header, load, loadEnd, bssEnd, entry }: AddressFields,
): Pick<MultibootImage, 'segments' | 'entry'> {
  const start = headerOffset - (header - load)
  const end = loadEnd === 0 ? bytes.length : start + (loadEnd - load)
  if (header < load || start < 0 || end < start || end > bytes.length) {
    throw new GuestError('GUEST_BAD_HEADER', {
      file,
      offset: headerOffset + 12,
      expected: 'addresses (header, load, end of load) that lie in the file',
      found: [header, load, loadEnd].map((each) => `0x${each.toString(16)}`).join(', '),
    })
  }
  const loaded = load + (end - start)
  if (bssEnd !== 0 && bssEnd < loaded) {
    throw new GuestError('GUEST_BAD_HEADER', {
      file,
      offset: headerOffset + 24,
      expected: `an end of zeroed memory at or above that of loaded memory, 0x${loaded.toString(16)}`,
      found: `0x${bssEnd.toString(16)}`,
    })
  }
  const size = (bssEnd === 0 ? loaded : bssEnd) - load
  return { segments: [{ address: load, size, bytes: bytes.subarray(start, end) }], entry }
}
