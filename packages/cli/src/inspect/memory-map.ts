import { formatAddress } from '@trapdoor/core'
import type { readMemoryMaps } from '@trapdoor/intake'
import { formatMemoryAttribute, memoryTypeName } from '@trapdoor/uefi'
import { alignColumns, plural } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'

/** The memory maps of a text, descriptor by descriptor, and what the reader found odd. */
export function renderMemoryMaps(read: ReturnType<typeof readMemoryMaps>, paint: Paint): string[] {
  const lines: string[] = []
  for (const [index, map] of read.maps.entries()) {
    const state = map.complete ? 'complete' : `incomplete: ${map.missing ?? 'something is missing'}`
    const heading = paint('bold', `map ${index + 1} of ${read.maps.length}`)
    lines.push(`${heading}  ${map.format}, ${plural(map.entries.length, 'descriptor')}, ${state}`)
    const rows = map.entries.map(({ type, start, pages, attribute, line }) => [
      `  ${formatAddress(start)}-${formatAddress(start + pages * 4096n - 1n)}`,
      plural(Number(pages), 'page'),
      memoryTypeName(type),
      attribute === null ? 'attributes unknown' : formatMemoryAttribute(attribute),
      paint('dim', `line ${line}`),
    ])
    lines.push(...alignColumns(rows, [1]), '')
    for (const warning of map.warnings) lines.push(renderWarning(warning, paint))
  }
  for (const warning of read.warnings) lines.push(renderWarning(warning, paint))
  return lines
}

function renderWarning(
  warning: ReturnType<typeof readMemoryMaps>['warnings'][number],
  paint: Paint,
): string {
  const { code, message, file, line, hint } = warning
  const text = `${paint('yellow', 'warning')} ${code}: ${message}\n  at ${file}:${line}`
  return hint === undefined ? text : `${text}\n  hint: ${hint}`
}
