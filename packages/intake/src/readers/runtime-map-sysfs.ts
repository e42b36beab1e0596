import { checkEntry, checkOverlaps } from '../entry-checks.ts'
import type { IntakeWarning, MapEntry, MemoryMapText } from '../memory-map-text.ts'
import type { SourceLine } from '../source-text.ts'
import { hex } from './reader.ts'

const FIELDS = ['type', 'phys_addr', 'num_pages', 'attribute', 'virt_addr'] as const
type Field = (typeof FIELDS)[number]
const LINE = new RegExp(String.raw`(?:^|/)(\d+)/(${FIELDS.join('|')}):\s*0x([0-9a-f]+)\s*$`, 'i')

interface Region {
  readonly line: number
  readonly fields: Partial<Record<Field, bigint>>
}

/** What `grep -r . /sys/firmware/efi/runtime-map` prints: one field of one region a line, in any order. Undefined where there is none. */
export function readRuntimeMapSysfs(
  file: string,
  lines: readonly SourceLine[],
): MemoryMapText | undefined {
  const warnings: IntakeWarning[] = []
  const warn = (
    code: IntakeWarning['code'],
    line: number,
    message: string,
    hint?: string,
  ): void => {
    warnings.push({ code, message, file, line, ...(hint === undefined ? {} : { hint }) })
  }
  const regions = new Map<number, Region>()
  for (const { text, number: line, unterminated } of lines) {
    const match = LINE.exec(text)
    if (match === null) continue
    const index = Number(match[1])
    const field = match[2]!.toLowerCase() as Field
    const value = hex(match[3]!)
    const region = regions.get(index) ?? { line, fields: {} }
    if ((region.fields[field] ?? value) !== value) {
      warn('INTAKE_CONFLICT', line, `${field} of region ${index} comes twice and says two things`)
    }
    if (unterminated) {
      warn('INTAKE_CUT', line, 'the text breaks off in this line: what it says may be cut')
    }
    region.fields[field] ??= value
    regions.set(index, region)
  }
  const [first] = regions.values()
  if (first === undefined) return undefined
  const entries: MapEntry[] = []
  let expected = 0
  for (const [index, { line, fields }] of [...regions].toSorted(([a], [b]) => a - b)) {
    if (index !== expected) warn('INTAKE_GAP', line, `region ${expected} missing before ${index}`)
    expected = index + 1
    const absent = FIELDS.filter((field) => fields[field] === undefined)
    if (absent.length > 0) {
      const hint = 'the files are readable for root alone'
      warn('INTAKE_TORN_LINE', line, `region ${index} lacks ${absent.join(', ')}`, hint)
    }
    const { type, phys_addr: start, num_pages: pages } = fields
    if (type === undefined || start === undefined || pages === undefined) continue
    const entry: MapEntry = {
      type: Number(type),
      start,
      pages,
      attribute: fields.attribute ?? null,
      ...(fields.virt_addr === undefined ? {} : { virtualStart: fields.virt_addr }),
      line,
    }
    entries.push(entry)
    warnings.push(...checkEntry(file, entry))
  }
  return {
    format: 'runtime_map_sysfs',
    kind: 'runtime-copy',
    complete: false,
    missing: 'everything but the runtime regions',
    entries,
    warnings: [...warnings, ...checkOverlaps(file, entries)],
    file,
    line: first.line,
  }
}
