import { attributesOf, memoryTypeOf } from '../vocabulary.ts'
import { hasPartOfRow, hex, type MapReader, pagesBetween, type ReadEntry } from './reader.ts'

const ROW = /^(\S+(?: \w+)*)\s+([0-9a-f]{16})-([0-9a-f]{16})(?:\s+(\S+))?$/i
const OLD_NAME = /^[A-Z][A-Z ]+$/

function entry(line: string): ReadEntry | undefined {
  const match = ROW.exec(line)
  if (match === null) return undefined
  const [, name, first, last, words] = match as unknown as (string | undefined)[]
  const type = memoryTypeOf(name!)
  const attribute = attributesOf(words ?? '')
  if (type === undefined || attribute === undefined) return undefined
  const start = hex(first!)
  const end = hex(last!)
  return {
    format: OLD_NAME.test(name!) ? 'uboot_efidebug' : 'uboot_efi_mem',
    entry: { type, start, pages: pagesBetween(start, end), attribute },
    printed: { end },
  }
}

/** `efidebug memmap` of U-Boot, and `efi mem` with its head line; ends are exclusive. */
export const uboot: MapReader = {
  formats: ['uboot_efi_mem', 'uboot_efidebug'],
  end: 'footer',
  needsHeader: true,
  openEnded: true,
  entry,
  note: (line) => {
    const head = /^EFI table at .*, size ([0-9a-f]+), .* descr\. size 0x([0-9a-f]+)/i.exec(line)
    if (head !== null) {
      return { begins: true, mapBytes: parseInt(head[1]!, 16), stride: parseInt(head[2]!, 16) }
    }
    if (/^Type\s+Start\s+End\s+Attributes/i.test(line)) return { begins: true }
    return line.startsWith('=>') ? { ends: true } : undefined
  },
  // A type without a name is printed as "(unknown)", and its number is lost.
  torn: (line) => line.startsWith('(unknown)') || hasPartOfRow(line),
}
