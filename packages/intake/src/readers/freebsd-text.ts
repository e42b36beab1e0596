import { attributesOf, memoryTypeOf } from '../vocabulary.ts'
import { beginsRow, hex, type MapReader } from './reader.ts'

const ROW =
  /^\s*(\S+)\s+([0-9a-f]{12,16})\s+(?:0x)?([0-9a-f]{1,16})\s+([0-9a-f]{8,16})((?:\s[A-Z_]+)*)$/i

/** `sysctl machdep.efi_map` of FreeBSD: type, physical, virtual, pages, attribute words. */
export const freebsdText: MapReader = {
  formats: ['freebsd_text'],
  end: 'next-line',
  needsHeader: true,
  openEnded: true,
  entry: (line) => {
    const match = ROW.exec(line)
    if (match === null) return undefined
    const [, name, start, virtual, pages, words] = match as unknown as string[]
    const type = memoryTypeOf(name!)
    const attribute = attributesOf(words!)
    if (type === undefined || attribute === undefined) return undefined
    return {
      format: 'freebsd_text',
      entry: {
        type,
        start: hex(start!),
        virtualStart: hex(virtual!),
        pages: hex(pages!),
        attribute,
      },
    }
  },
  note: (line) =>
    /^\s*Type\s+Physical\s+Virtual\s+#Pages\s+Attr/i.test(line) ? { begins: true } : undefined,
  // A type without a name is printed as "<INVALID>", and its number is lost.
  torn: (line) =>
    line.startsWith('<INVALID>') || beginsRow(line) || /\b0x[0-9a-f]+\s+[0-9a-f]{8}\b/i.test(line),
}
