import { memoryTypeOf } from '../vocabulary.ts'
import { hasPartOfRow, hex, type MapReader } from './reader.ts'

const ROW = /^\s*(\S+)\s+([0-9a-f]{8,16})-([0-9a-f]{8,16})\s+([0-9a-f]{8,16})\s+([0-9a-f]{16})$/i

/** `memmap` of the UEFI shell: rows with an inclusive end, then the pages of each type, which serve as a checksum. */
export const shell: MapReader = {
  formats: ['shell'],
  end: 'footer',
  needsHeader: true,
  entry: (line) => {
    const match = ROW.exec(line)
    if (match === null) return undefined
    const [, name, start, last, pages, attribute] = match as unknown as string[]
    const type = memoryTypeOf(name!)
    if (type === undefined) return undefined
    return {
      format: 'shell',
      entry: { type, start: hex(start!), pages: hex(pages!), attribute: hex(attribute!) },
      printed: { end: hex(last!) + 1n },
    }
  },
  note: (line) => {
    if (/^\s*Type\s+Start\s+End\s+#\s*Pages\s+Attributes/i.test(line)) return { begins: true }
    if (/^\s*Total Memory\s*:/i.test(line)) return { ends: true }
    const total = /^\s*(\w+)\s*:\s+([\d,]+) Pages \([\d,]+ Bytes\)/i.exec(line)
    const type = total === null ? undefined : memoryTypeOf(total[1]!)
    if (total === null || type === undefined) return undefined
    return { pages: { type, pages: BigInt(total[2]!.replaceAll(',', '')) } }
  },
  torn: (line) => ROW.test(line) || hasPartOfRow(line),
}
