import { memoryTypeOf } from '../vocabulary.ts'
import { hex, type MapReader, pagesBetween } from './reader.ts'

const ROW = /^\s*(\S+)\s+([0-9a-f]{8,16})-([0-9a-f]{8,16})\s+([0-9a-f]{8,16})\s+([0-9a-f]{16})\s*$/i

/** `memmap` of the UEFI shell: rows with an inclusive end, then the pages of each type, which serve as a checksum. */
export const shell: MapReader = {
  formats: ['shell'],
  end: 'footer',
  needsHeader: true,
  entry: (line) => {
    const match = ROW.exec(line)
    if (match === null) return undefined
    const [, name, first, last, pages, attribute] = match as unknown as string[]
    const type = memoryTypeOf(name!)
    if (type === undefined) return undefined
    const start = hex(first!)
    const printed = hex(pages!)
    const spanned = pagesBetween(start, hex(last!) + 1n)
    return {
      format: 'shell',
      entry: { type, start, pages: printed, attribute: hex(attribute!) },
      ...(printed === spanned
        ? {}
        : { mark: `its range spans ${spanned} pages and its column says ${printed}` }),
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
  torn: (line) =>
    /^\s*(?:BS_|RT_|Available|LoaderCode|LoaderData|Reserved|MMIO|ACPI_)\S*\s+[0-9a-f]{2,16}(?:-|$)/i.test(
      line,
    ),
}
