import { stripVTControlCharacters } from 'node:util'

/** Columns that a text takes in a terminal; colours take none. */
export function visibleWidth(text: string): number {
  return stripVTControlCharacters(text).length
}

/** Fills up with spaces on the right. */
export function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - visibleWidth(text)))
}

/** Fills up with spaces on the left. */
export function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - visibleWidth(text))) + text
}

/** Breaks at spaces so that every line, indented, fits into `width`; a longer word stays whole. */
export function wrap(text: string, width: number, indent = ''): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/\s+/)) {
    if (line !== '' && visibleWidth(indent + line) + 1 + visibleWidth(word) > width) {
      lines.push(indent + line)
      line = word
    } else line += line === '' ? word : ` ${word}`
  }
  return [...lines, indent + line]
}

/** Entries beside one another, two spaces apart, on as many lines of this width as they need. */
export function flow(entries: readonly string[], width: number): string[] {
  const lines: string[] = []
  for (const entry of entries) {
    const last = lines.at(-1)
    const longer = `${last}  ${entry}`
    if (last !== undefined && visibleWidth(longer) <= width) lines[lines.length - 1] = longer
    else lines.push(entry)
  }
  return lines
}

/** Lines with columns below one another, two spaces apart. Cells of the columns in `right` end at one edge. */
export function alignColumns(
  rows: readonly (readonly string[])[],
  right: readonly number[] = [],
): string[] {
  const widths: number[] = []
  for (const row of rows) {
    for (const [column, cell] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, visibleWidth(cell))
    }
  }
  return rows.map((row) =>
    row
      .map((cell, column) => (right.includes(column) ? padStart : padEnd)(cell, widths[column]!))
      .join('  ')
      .trimEnd(),
  )
}

/** Lines with columns below one another, the last of them wrapped into what is left of `width`. `below` are lines that follow a row as they are. */
export function wrapLastColumn(
  rows: readonly (readonly string[])[],
  width: number,
  below: readonly (readonly string[])[] = [],
): string[] {
  const heads = alignColumns(rows.map((row) => [...row.slice(0, -1), '|']))
  return rows.flatMap((row, index) => {
    const start = heads[index]!.slice(0, -1)
    const indent = ' '.repeat(visibleWidth(start))
    const [first = '', ...rest] = wrap(row.at(-1)!, width, indent)
    return [start + first.trimStart(), ...rest, ...(below[index] ?? [])]
  })
}

/** `3.9 GiB`, with one digit where it is not whole. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`
}

/** `1 case`, `2 cases`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
