import type { PrintedRange } from '../entry-checks.ts'
import { attributesOf, memoryTypeOf } from '../vocabulary.ts'
import { hex, lengthOf, type MapReader, pagesBetween, type ReadEntry, sameWidth } from './reader.ts'

const RANGE = String.raw`range=\[0x([0-9a-f]+)-0x([0-9a-f]+)([\])]) \((?:(\d+)MB|(invalid))\)`
const TYPE_FORM = new RegExp(
  String.raw`^efi: mem(\d{2,}): type=(\d+), attr=0x([0-9a-f]+), ${RANGE}`,
  'i',
)
const NAMES_FORM = new RegExp(String.raw`^efi: mem(\d{2,}): \[([^|\]]+)\|([^\]]*)\] ${RANGE}`, 'i')

/** `range=[a-b)` up to 4.8, `range=[a-b]` with an inclusive end from 4.9 on: the bracket is the only sign. */
function rangeOf(
  start: string,
  end: string,
  bracket: string,
  size: string | undefined,
): { start: bigint; pages: bigint; printed: PrintedRange } {
  const first = hex(start)
  const last = hex(end)
  if (bracket === ')') {
    return {
      start: first,
      pages: pagesBetween(first, last),
      printed: { end: last, ...lengthOf(size, 'M') },
    }
  }
  const next = last + 1n
  // Of an entry without pages, kernels print an end of 0 or, older ones, the byte before its start.
  const empty = last === 0n || (size === '0' && BigInt.asUintN(64, next) === first)
  if (empty) return { start: first, pages: 0n, printed: {} }
  return {
    start: first,
    pages: pagesBetween(first, next),
    printed: { end: next, ...lengthOf(size, 'M') },
  }
}

function entry(line: string): ReadEntry | undefined {
  const numbered = TYPE_FORM.exec(line)
  const match = numbered ?? NAMES_FORM.exec(line)
  if (match === null) return undefined
  const [, number, what, columns, first, last, bracket, size, invalid] =
    match as unknown as string[]
  const type = numbered === null ? memoryTypeOf(what!) : Number(what)
  const attribute = numbered === null ? attributesOf(columns!) : hex(columns!)
  if (type === undefined || attribute === undefined) return undefined
  if (!sameWidth(first!, last!, 16)) return undefined
  const { printed, ...range } = rangeOf(first!, last!, bracket!, size)
  const named = bracket === ']' ? 'linux_names_incl' : 'linux_names_halfopen'
  return {
    format: numbered === null ? named : 'linux_type',
    number: Number(number),
    entry: { type, attribute, ...range },
    printed,
    ...(invalid === undefined ? {} : { mark: 'the kernel calls it invalid' }),
  }
}

/** The number with what follows it, a range that is not of `Remove memNN: MMIO`, or no more than the first letters. */
const PART =
  /\bmem\d+: ?(?:\[|type=)|^efi: mem\d+: ?t|(?<!MMIO )\brange=\[0x[0-9a-f]+-0x[0-9a-f]+[\])] \((?:\d|inv)|^efi:(?: m| me| mem\d*:?)?$/i

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
  torn: (line) => PART.test(line),
}
