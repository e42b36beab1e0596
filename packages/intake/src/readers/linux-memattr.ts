import { attributesOf, memoryTypeOf } from '../vocabulary.ts'
import { hex, type MapReader, NAMED_RANGE, pagesBetween } from './reader.ts'

const LINE = /^efi: memattr: (!)?\s*0x([0-9a-f]+)-0x([0-9a-f]+) \[([^|\]]+)\|([^\]]*)\]/i

/** The memory attributes table, as Linux prints it with efi=debug (efi_memattr_apply_permissions()); ends are inclusive. */
export const linuxMemattr: MapReader = {
  formats: ['linux_memattr'],
  end: 'partial',
  needsHeader: false,
  leavesOut: 'everything but the parts of runtime regions',
  entry: (line) => {
    const match = LINE.exec(line)
    if (match === null) return undefined
    const type = memoryTypeOf(match[4]!)
    const attribute = attributesOf(match[5]!)
    if (type === undefined || attribute === undefined) return undefined
    const start = hex(match[2]!)
    const end = hex(match[3]!) + 1n
    return {
      format: 'linux_memattr',
      kind: 'memory-attributes',
      entry: { type, start, pages: pagesBetween(start, end), attribute },
      printed: { end },
      ...(match[1] === '!' ? { mark: 'the kernel rejects it' } : {}),
    }
  },
  note: (line) =>
    /^efi: memattr: Processing EFI Memory/i.test(line) ? { begins: true } : undefined,
  torn: (line) => /^efi: memattr: !?\s*0x/i.test(line) || NAMED_RANGE.test(line),
}
