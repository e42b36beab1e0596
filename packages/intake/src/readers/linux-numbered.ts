import { attributesOf, memoryTypeOf } from '../vocabulary.ts'
import { hex, type MapReader, pagesBetween, type ReadEntry } from './reader.ts'

const RANGE = String.raw`range=\[0x([0-9a-f]+)-0x([0-9a-f]+)([\])])(?: \((\d+MB|invalid)\))?`
const TYPE_FORM = new RegExp(
  String.raw`^efi: mem(\d+): type=(\d+), attr=0x([0-9a-f]+), ${RANGE}`,
  'i',
)
const NAMES_FORM = new RegExp(String.raw`^efi: mem(\d+): \[([^|\]]+)\|([^\]]*)\] ${RANGE}`, 'i')

/** `range=[a-b)` up to 4.8, `range=[a-b]` with an inclusive end from 4.9 on: the bracket is the only sign. */
function rangeOf(start: string, end: string, bracket: string): { start: bigint; pages: bigint } {
  const first = hex(start)
  const last = hex(end)
  // An inclusive end of 0 from 0 is how 4.9 and later print a descriptor of no pages.
  const empty = bracket === ']' && first === last
  return {
    start: first,
    pages: empty ? 0n : pagesBetween(first, bracket === ']' ? last + 1n : last),
  }
}

function entry(line: string): ReadEntry | undefined {
  const numbered = TYPE_FORM.exec(line)
  if (numbered !== null) {
    const [, number, type, attribute, start, end, bracket, size] = numbered as unknown as string[]
    return {
      format: 'linux_type',
      number: Number(number),
      entry: {
        type: Number(type),
        attribute: hex(attribute!),
        ...rangeOf(start!, end!, bracket!),
      },
      ...(size === 'invalid' ? { mark: 'the kernel calls it invalid' } : {}),
    }
  }
  const named = NAMES_FORM.exec(line)
  if (named === null) return undefined
  const [, number, name, columns, start, end, bracket, size] = named as unknown as string[]
  const type = memoryTypeOf(name!)
  const attribute = attributesOf(columns!)
  if (type === undefined || attribute === undefined) return undefined
  return {
    format: bracket === ']' ? 'linux_names_incl' : 'linux_names_halfopen',
    number: Number(number),
    entry: { type, attribute, ...rangeOf(start!, end!, bracket!) },
    ...(size === 'invalid' ? { mark: 'the kernel calls it invalid' } : {}),
  }
}

/** `efi: memNN: …`, as Linux prints the firmware's map on x86 (efi_print_memmap()). */
export const linuxNumbered: MapReader = {
  formats: ['linux_type', 'linux_names_halfopen', 'linux_names_incl'],
  end: 'next-line',
  needsHeader: false,
  entry,
  note: (line) =>
    /^efi: EFI runtime memory map:/i.test(line)
      ? { begins: true, kind: 'runtime-copy' }
      : undefined,
  torn: (line) => /^efi: mem\d+: ?(?:\[|t|$)/i.test(line),
}
