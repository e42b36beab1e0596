import type { MemoryDescriptor } from '@trapdoor/uefi'
import { IntakeError } from './error.ts'
import type { IntakeWarning, MemoryMapText } from './memory-map-text.ts'

/** Physical addresses that a processor can have. */
const PHYSICAL_LIMIT = 1n << 52n

/** Warnings of entries that cannot be right as they were read. */
const CONTRADICTIONS: ReadonlySet<IntakeWarning['code']> = new Set([
  'INTAKE_RANGE',
  'INTAKE_OVERSIZED',
  'INTAKE_CONFLICT',
])

/** The first whole map of the firmware. Throws INTAKE_INCOMPLETE, saying what the maps there are lack. */
export function selectFirmwareMap(maps: readonly MemoryMapText[]): MemoryMapText {
  const whole = maps.find((map) => map.kind === 'firmware' && map.complete)
  if (whole !== undefined) return whole
  const [first] = maps
  throw new IntakeError('INTAKE_INCOMPLETE', {
    file: first?.file ?? '(no file)',
    ...(first === undefined ? {} : { line: first.line }),
    expected: 'the whole memory map of a firmware',
    found:
      maps.length === 0
        ? 'no map'
        : maps
            .map(
              (map) =>
                `${map.format}, line ${map.line}, ${map.entries.length} entries, which lacks ${map.missing ?? 'the rest'}`,
            )
            .join('; '),
    hint: 'take the log of a boot with efi=debug from its first line on',
  })
}

/**
 * The descriptors of a map, ready to run on, in its order; entries of no pages are kept. Throws INTAKE_INCOMPLETE on a map that is not whole, INTAKE_BAD_ENTRY on an
 * entry without attributes, off page boundaries, past 2^52 or in contradiction with itself, INTAKE_OVERLAP where two entries claim one page, unless `overlaps` is `keep`.
 */
export function toMemoryDescriptors(
  map: MemoryMapText,
  options: { readonly overlaps?: 'refuse' | 'keep' } = {},
): MemoryDescriptor[] {
  if (!map.complete) {
    throw new IntakeError('INTAKE_INCOMPLETE', {
      file: map.file,
      line: map.line,
      expected: 'a whole memory map',
      found: `one that lacks ${map.missing ?? 'the rest'}`,
    })
  }
  const overlap = map.warnings.find((warning) => warning.code === 'INTAKE_OVERLAP')
  if (overlap !== undefined && options.overlaps !== 'keep') {
    throw new IntakeError('INTAKE_OVERLAP', {
      file: map.file,
      line: overlap.line,
      expected: 'entries that do not overlap',
      found: overlap.message,
      hint: 'pass overlaps: "keep" to run on it all the same',
    })
  }
  const contradiction = map.warnings.find((warning) => CONTRADICTIONS.has(warning.code))
  if (contradiction !== undefined) {
    throw new IntakeError('INTAKE_BAD_ENTRY', {
      file: map.file,
      line: contradiction.line,
      expected: 'entries whose numbers agree and fit their fields',
      found: contradiction.message,
    })
  }
  return map.entries.map((entry) => {
    const bad = (expected: string, found: string): IntakeError =>
      new IntakeError('INTAKE_BAD_ENTRY', { file: map.file, line: entry.line, expected, found })
    if (entry.attribute === null)
      throw bad('an entry with attributes', `the form ${map.format}, which prints none`)
    if (entry.start % 0x1000n !== 0n)
      throw bad('the start of a page', `0x${entry.start.toString(16)}`)
    if (entry.start + entry.pages * 0x1000n > PHYSICAL_LIMIT) {
      throw bad(
        'physical addresses below 2^52',
        `${entry.pages} pages from 0x${entry.start.toString(16)}`,
      )
    }
    return {
      type: entry.type,
      physicalStart: Number(entry.start),
      // What another system assigned means nothing to the one that boots here.
      virtualStart: 0n,
      numberOfPages: Number(entry.pages),
      attribute: entry.attribute,
    }
  })
}
