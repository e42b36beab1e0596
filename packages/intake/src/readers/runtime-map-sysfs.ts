import type { MapEntry, MemoryMapText } from '../memory-map-text.ts'
import type { SourceLine } from '../source-text.ts'
import { hex } from './reader.ts'

const LINE = /(?:^|\/)(\d+)\/(attribute|num_pages|phys_addr|type|virt_addr):\s*0x([0-9a-f]+)\s*$/i

type Field = 'attribute' | 'num_pages' | 'phys_addr' | 'type' | 'virt_addr'

/** What `grep -r . /sys/firmware/efi/runtime-map` prints: one field of one region a line, in any order. Undefined where there is none. */
export function readRuntimeMapSysfs(
  file: string,
  lines: readonly SourceLine[],
): MemoryMapText | undefined {
  const regions = new Map<number, { line: number; fields: Partial<Record<Field, bigint>> }>()
  for (const { text, number } of lines) {
    const match = LINE.exec(text)
    if (match === null) continue
    const index = Number(match[1])
    const region = regions.get(index) ?? { line: number, fields: {} }
    region.fields[match[2]!.toLowerCase() as Field] = hex(match[3]!)
    regions.set(index, region)
  }
  if (regions.size === 0) return undefined
  const entries: MapEntry[] = []
  const warnings: MemoryMapText['warnings'][number][] = []
  for (const [index, { line, fields }] of [...regions].toSorted(([a], [b]) => a - b)) {
    const { type, phys_addr: start, num_pages: pages } = fields
    if (type === undefined || start === undefined || pages === undefined) {
      warnings.push({
        code: 'INTAKE_TORN_LINE',
        message: `region ${index} lacks a type, an address or a number of pages`,
        file,
        line,
        hint: 'the files are readable for root alone',
      })
      continue
    }
    entries.push({
      type: Number(type),
      start,
      pages,
      attribute: fields.attribute ?? null,
      ...(fields.virt_addr === undefined ? {} : { virtualStart: fields.virt_addr }),
      line,
    })
  }
  return {
    format: 'runtime_map_sysfs',
    kind: 'runtime-copy',
    complete: false,
    missing: 'everything but the runtime regions',
    entries,
    warnings,
    file,
    line: Math.min(...[...regions.values()].map((region) => region.line)),
  }
}
