import { attributesOf, memoryTypeOf } from '../vocabulary.ts'
import { hex, type MapReader } from './reader.ts'

const ROW =
  /^\s*(\S+(?: [0-9a-f]{2})?)\s+([0-9a-f]{16})-([0-9a-f]{16})\s+([0-9a-f]{8,16})\s+\d+KiB((?:\s+[A-Z]+)*)\s*$/i

/** `lsefimmap` of GRUB; ends are inclusive. */
export const grub: MapReader = {
  formats: ['grub'],
  end: 'footer',
  needsHeader: true,
  entry: (line) => {
    const match = ROW.exec(line)
    if (match === null) return undefined
    const type = memoryTypeOf(match[1]!)
    const attribute = attributesOf(match[5]!)
    if (type === undefined || attribute === undefined) return undefined
    return {
      format: 'grub',
      entry: { type, start: hex(match[2]!), pages: hex(match[4]!), attribute },
    }
  },
  note: (line) => {
    if (/^\s*Type\s+Physical start\s+- end/i.test(line)) return { begins: true }
    return /^grub>/i.test(line) ? { ends: true } : undefined
  },
  torn: (line) =>
    /^\s*(?:reserved|ldr-|BS-|RT-|conv-mem|unusable|ACPI-|IO-ports|PAL-)\S*\s+[0-9a-f]{2,16}(?:-|$)/i.test(
      line,
    ),
}
