import { IntakeError } from '../error.ts'

/** A leaf of a page-table tree. */
export interface ObservedLeaf {
  /** Linear address. */
  readonly address: bigint
  /** Physical address in bytes. */
  readonly physical: number
  /** Bytes of the page. */
  readonly pageSize: number
  readonly writable: boolean
  readonly executable: boolean
  readonly user: boolean
  /** PCD, that is UC- where PWT is clear. */
  readonly cacheDisable: boolean
}

const PAGE_SIZES: Readonly<Record<string, number>> = {
  '4K': 0x1000,
  '2M': 0x20_0000,
  '1G': 0x4000_0000,
}

/**
 * Reads `efi-pgd.json`: `ranges` of [address, physical address, bytes, page size, flags] in hexadecimal, flags being of w, x, u and c, and `nleaves`, their number. Throws
 * INTAKE_BAD_ENTRY where it is cut or does not add up.
 */
export function readPageTables(file: string, bytes: Uint8Array): ObservedLeaf[] {
  const { ranges, nleaves } = parse(file, bytes)
  const leaves = ranges.flatMap((range) => leavesOf(file, range))
  if (leaves.length !== nleaves) {
    throw bad(file, `${String(nleaves)} leaves, as it says`, String(leaves.length))
  }
  return leaves
}

function parse(
  file: string,
  bytes: Uint8Array,
): { readonly ranges: readonly unknown[]; readonly nleaves: unknown } {
  const text = new TextDecoder().decode(bytes)
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error)
    throw bad(file, 'JSON', found, lineOf(found, text))
  }
  if (typeof document === 'object' && document !== null && 'ranges' in document) {
    const { ranges } = document
    if (Array.isArray(ranges) && 'nleaves' in document) {
      return { ranges: ranges as unknown[], nleaves: document.nleaves }
    }
  }
  throw bad(file, 'an object with ranges and nleaves', 'something else')
}

/** The line that a message of JSON.parse() is about: the last where it only says that the input ended. */
function lineOf(message: string, text: string): number {
  const [, line] = /\(line (\d+) column \d+\)/.exec(message) ?? []
  return line === undefined ? text.trimEnd().split('\n').length : Number(line)
}

function leavesOf(file: string, range: unknown): ObservedLeaf[] {
  const words = Array.isArray(range) ? range.map(String) : []
  const [address = '', physical = '', bytes = '', size = '', flags = ''] = words
  const pageSize = PAGE_SIZES[size]
  const isHex = [address, physical, bytes].every((word) => /^0x[\da-f]+$/i.test(word))
  if (pageSize === undefined || !isHex || Number(bytes) % pageSize !== 0) {
    throw bad(file, 'a range such as ["0x0", "0x0", "0x1000", "4K", "w-"]', JSON.stringify(range))
  }
  const rights = {
    pageSize,
    writable: flags.includes('w'),
    executable: flags.includes('x'),
    user: flags.includes('u'),
    cacheDisable: flags.includes('c'),
  }
  return Array.from({ length: Number(bytes) / pageSize }, (_, index) => ({
    address: BigInt(address) + BigInt(index * pageSize),
    physical: Number(physical) + index * pageSize,
    ...rights,
  }))
}

function bad(file: string, expected: string, found: string, line?: number): IntakeError {
  return new IntakeError('INTAKE_BAD_ENTRY', {
    file,
    ...(line === undefined ? {} : { line }),
    expected,
    found,
  })
}
