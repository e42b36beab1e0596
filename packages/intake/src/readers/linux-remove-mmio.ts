import { MemoryType } from '@trapdoor/uefi'
import { hex, lengthOf, type MapReader, pagesBetween } from './reader.ts'

const LINE =
  /^efi: (?:Remove|Not removing) mem(\d+): MMIO range=\[0x([0-9a-f]+)-0x([0-9a-f]+)\] \((\d+)([KM])B\) from e820 map/i

/** `efi: Remove memNN: MMIO range=…`, all that Linux 5.18 and later says without efi=debug. */
export const linuxRemoveMmio: MapReader = {
  formats: ['linux_remove_mmio'],
  end: 'partial',
  needsHeader: false,
  leavesOut: 'everything but MMIO; boot with efi=debug',
  entry: (line) => {
    const match = LINE.exec(line)
    if (match === null) return undefined
    const start = hex(match[2]!)
    const end = hex(match[3]!) + 1n
    return {
      format: 'linux_remove_mmio',
      entry: {
        type: MemoryType.MemoryMappedIO,
        start,
        pages: pagesBetween(start, end),
        attribute: null,
      },
      printed: { end, ...lengthOf(match[4], match[5]) },
    }
  },
  torn: (line) => /^efi: (?:Remove|Not removing) mem\d+: MMIO/i.test(line),
}
