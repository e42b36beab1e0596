import { attributesOf, memoryTypeOf } from '../vocabulary.ts'
import { hex, type MapReader } from './reader.ts'

const ROW =
  /^\s*([A-Za-z][A-Za-z ]*?)\s+(?:0x)?([0-9a-f]{8,16})\s+(?:0x)?([0-9a-f]{4,16})\s+(?:0x)?([0-9a-f]+)\s+((?:[A-Z]+ ?)*)\s*$/i

/** `sysctl machdep.efi_map` of FreeBSD: type, physical, virtual, pages, attribute words. */
export const freebsdText: MapReader = {
  formats: ['freebsd_text'],
  end: 'next-line',
  needsHeader: true,
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
  torn: () => false,
}
