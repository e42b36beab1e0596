import { attributesOf, memoryTypeOf } from '../vocabulary.ts'
import { hex, type MapReader, NAMED_RANGE, pagesBetween, sameWidth } from './reader.ts'

const LINE = /^efi:\s+0x([0-9a-f]+)-0x([0-9a-f]+) \[([^|\]]+)\|([^\]]*)\]\*?$/i

/** The map after `efi: Processing EFI memory map:`, as Linux prints it on arm, arm64 and riscv; ends are inclusive. */
export const linuxArm: MapReader = {
  formats: ['linux_arm'],
  end: 'next-line',
  needsHeader: true,
  entry: (line) => {
    const match = LINE.exec(line)
    if (match === null) return undefined
    const type = memoryTypeOf(match[3]!)
    const attribute = attributesOf(match[4]!)
    if (type === undefined || attribute === undefined) return undefined
    if (!sameWidth(match[1]!, match[2]!, 12)) return undefined
    const start = hex(match[1]!)
    const end = hex(match[2]!) + 1n
    return {
      format: 'linux_arm',
      entry: { type, start, pages: pagesBetween(start, end), attribute },
      printed: { end },
    }
  },
  note: (line) => {
    if (/^efi: Processing EFI memory map:/i.test(line)) return { begins: true }
    const head = /^efi:\s+MemMap (Size|Desc\. Size): 0x([0-9a-f]+)/i.exec(line)
    if (head === null) return undefined
    const bytes = parseInt(head[2]!, 16)
    return head[1] === 'Size' ? { mapBytes: bytes } : { stride: bytes }
  },
  torn: (line) => /^efi:(?:\s+0x?|$)/i.test(line) || NAMED_RANGE.test(line),
}
