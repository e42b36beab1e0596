import { MemoryType } from '@trapdoor/uefi'
import { hex, type MapReader } from './reader.ts'

const LINE = /OCABC: MMIO devirt 0x([0-9a-f]+) \(0x([0-9a-f]+) pages, 0x([0-9a-f]+)\) skip \d/i

/** What OpenCore's log says of MMIO regions with the RUNTIME attribute. */
export const opencoreDevirt: MapReader = {
  formats: ['opencore_devirt'],
  end: 'partial',
  needsHeader: false,
  leavesOut: 'everything but runtime MMIO',
  entry: (line) => {
    const match = LINE.exec(line)
    if (match === null) return undefined
    return {
      format: 'opencore_devirt',
      entry: {
        type: MemoryType.MemoryMappedIO,
        start: hex(match[1]!),
        pages: hex(match[2]!),
        attribute: hex(match[3]!),
      },
    }
  },
  torn: (line) => /OCABC: MMIO devirt 0x[0-9a-f]+(?: \(0x[0-9a-f]*)?$/i.test(line),
}
