import { attributesOf, memoryTypeOf } from '../vocabulary.ts'
import { hasPartOfRow, hex, lengthOf, type MapReader } from './reader.ts'

const ROW =
  /^\s*(\S+(?: [0-9a-f]+)?)\s+([0-9a-f]{16})-([0-9a-f]{16})\s+([0-9a-f]{8,16})\s+(\d+)([KMGT])i?B((?:\s+[A-Z]+)*)$/i

/** `lsefimmap` of GRUB; ends are inclusive, sizes rounded down. */
export const grub: MapReader = {
  formats: ['grub'],
  end: 'footer',
  needsHeader: true,
  openEnded: true,
  entry: (line) => {
    const match = ROW.exec(line)
    if (match === null) return undefined
    const [, name, start, last, pages, count, unit, words] = match as unknown as string[]
    const type = memoryTypeOf(name!)
    const attribute = attributesOf(words!)
    if (type === undefined || attribute === undefined) return undefined
    return {
      format: 'grub',
      entry: { type, start: hex(start!), pages: hex(pages!), attribute },
      printed: { end: hex(last!) + 1n, ...lengthOf(count, unit) },
    }
  },
  note: (line) => {
    if (/^\s*Type\s+Physical start\s+- end/i.test(line)) return { begins: true }
    return /^grub>/i.test(line) ? { ends: true } : undefined
  },
  torn: (line) => hasPartOfRow(line) || /\d[KMGT]iB\b/i.test(line),
}
