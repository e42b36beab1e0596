import type { Finding } from '@trapdoor/harness'
import { alignColumns, wrap } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'
import { decodeEntry, FLAG_LEGEND } from './entry.ts'

/** A finding in full: who touched what, the walk level by level, what lies there, why, and what to do. */
export function renderFinding(finding: Finding, width: number, paint: Paint): string[] {
  const { rule, severity, title, message } = finding
  const style = severity === 'error' ? 'red' : severity === 'warning' ? 'yellow' : 'cyan'
  const lines = [`${paint([style, 'bold'], `${rule} ${severity}`)}: ${paint('bold', title)}`]
  lines.push(...wrap(message, width, '  '), '')
  lines.push(...labelled(facts(finding), width, paint))
  if (finding.walk.length > 0) {
    lines.push(
      '',
      `  ${paint('dim', 'walk')}  what the page tables say of that address, from CR3 down`,
    )
    lines.push(...renderWalk(finding).map((line) => `    ${line}`))
    lines.push(paint('dim', `    ${FLAG_LEGEND}`))
  }
  lines.push('')
  lines.push(
    ...labelled(
      [
        ['cause', finding.explanation],
        ['advice', finding.advice],
        ...finding.sources.map((source, index): [string, string] => [
          index === 0 ? 'source' : '',
          source,
        ]),
      ],
      width,
      paint,
    ),
  )
  return lines
}

/** The entries that a walk read, decoded, below one another. */
export function renderWalk({
  walk,
  access = null,
}: Pick<Finding, 'walk'> & Partial<Pick<Finding, 'access'>>): string[] {
  const refusedForReservedBits = access?.errorCode?.includes('reserved bit') === true
  return alignColumns(
    walk.map((step, index) => {
      const reserved = refusedForReservedBits && index === walk.length - 1
      const { flags, meaning } = decodeEntry(step, { reserved })
      return [
        step.entry,
        `table 0x${BigInt(step.table).toString(16)}[${step.index}]`,
        `= ${step.value}`,
        flags,
        `→ ${meaning}`,
      ]
    }),
  )
}

function facts(finding: Finding): [string, string][] {
  const { actor, kernel, phase, service, access, instruction, physical } = finding
  const during = service === null ? '' : ` inside ${service}`
  const rows: [string, string][] = [['who', `${actor}${during}, ${kernel}, phase ${phase}`]]
  if (instruction !== undefined) rows.push(['instruction', instruction])
  if (access !== null) {
    rows.push(['access', `${access.kind} at ${access.address}`])
    if (access.errorCode !== null) rows.push(['fault', access.errorCode])
  }
  if (physical !== null) {
    rows.push(
      ['physical', physical.address],
      ['memory', physical.descriptor ?? 'no descriptor of the EFI memory map covers it'],
      ['owner', physical.owner ?? 'nobody'],
    )
  }
  return rows
}

/** `label  text`, with the text wrapped beside its label. */
export function labelled(
  rows: readonly (readonly [string, string])[],
  width: number,
  paint: Paint,
): string[] {
  const labelWidth = Math.max(0, ...rows.map(([label]) => label.length))
  const indent = ' '.repeat(labelWidth + 4)
  return rows.flatMap(([label, text]) => {
    const [first, ...more] = wrap(text, width, indent)
    return [`  ${paint('dim', label.padEnd(labelWidth))}  ${first!.trimStart()}`, ...more]
  })
}
