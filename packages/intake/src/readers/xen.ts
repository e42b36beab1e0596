import { hex, type MapReader, pagesBetween } from './reader.ts'

const ROW =
  /^\(XEN\)(?: \[[^\]]+\])?\s+([0-9a-f]{13,16})-([0-9a-f]{13,16}) type=(\d+) attr=([0-9a-f]{16})/i

/** An address at the beginning, unless a row of the e820 map that follows has it, or what stands behind it. */
const PART =
  /^\(XEN\)(?: \[[^\]]+\])?\s+0[0-9a-f]{4,15}(?![0-9a-f ])|[0-9a-f]{12}-[0-9a-f]{12}|\btype=\d+ attr=/i

/** The map after `(XEN) EFI memory map:`; ends are inclusive. */
export const xen: MapReader = {
  formats: ['xen'],
  end: 'next-line',
  needsHeader: true,
  entry: (line) => {
    const match = ROW.exec(line)
    if (match === null) return undefined
    const [, first, last, type, attribute] = match as unknown as string[]
    const start = hex(first!)
    return {
      format: 'xen',
      entry: {
        type: Number(type),
        start,
        pages: pagesBetween(start, hex(last!) + 1n),
        attribute: hex(attribute!),
      },
      printed: { end: hex(last!) + 1n },
    }
  },
  note: (line) => (/^\(XEN\).*\bEFI memory map:/i.test(line) ? { begins: true } : undefined),
  torn: (line) => PART.test(line),
}
