import {
  type CaseResult,
  type CaseTrace,
  firmwareLabel,
  type MemoryMapSummary,
  parseStrategyLabel,
  type PluginRegistry,
} from '@trapdoor/harness'
import { OUTCOME_MARKS } from '../matrix/outcome.ts'
import { alignColumns, formatBytes, plural, wrap } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'
import { labelled, renderFinding } from './finding.ts'
import { renderTimeline } from './timeline.ts'

/** What an explanation needs beside the case itself. */
export interface ExplanationOptions {
  readonly paint: Paint
  readonly width: number
  /** Every event of the timeline and every service. */
  readonly all: boolean
  readonly registry: PluginRegistry
  readonly memoryMap: MemoryMapSummary | undefined
  /** The command that leads here. */
  readonly reproduce: string
}

/** A case told from the beginning to the end, for somebody who never saw how Trapdoor works inside. */
export function renderExplanation(trace: CaseTrace, options: ExplanationOptions): string {
  const { result, events } = trace
  const { paint, width, all } = options
  const rootName = (kernel: string, root: number): string | undefined =>
    trace.surveys.find((survey) => survey.kernel === kernel && survey.root === root)?.name
  const sections: string[][] = [
    [paint('bold', result.id)],
    [heading('What ran', paint), ...labelled(subject(result, options), width, paint)],
    [heading('How it ended', paint), ...ending(result, width, paint)],
    [
      heading('What happened', paint),
      ...renderTimeline(events, { paint, all, rootName }),
      ...end(result, width, paint),
    ],
  ]
  const services = servicesSection(result, all, paint)
  const byServices = result.outcome === 'degraded'
  // What ended the case comes first: where that is an answer of the firmware's, the findings are others' business.
  if (byServices && services.length > 0) sections.push(services)
  for (const [index, finding] of result.findings.entries()) {
    const count = result.findings.length
    const kind = finding.outcome === 'ok' ? 'Remark' : 'Finding'
    const title = count === 1 ? kind : `${kind} ${index + 1} of ${count}`
    const note = finding.outcome === 'ok' ? paint('dim', ' (it did no harm this time)') : ''
    sections.push([heading(title, paint) + note, ...renderFinding(finding, width, paint)])
  }
  if (!byServices && services.length > 0) sections.push(services)
  if (result.cost !== null) {
    sections.push([heading('What it cost', paint), ...labelled(costRows(result), width, paint)])
  }
  sections.push([heading('Again', paint), `  ${paint('cyan', options.reproduce)}`])
  return sections.map((section) => section.join('\n')).join('\n\n')
}

function heading(text: string, paint: Paint): string {
  return paint(['bold', 'underline'], text)
}

function subject(result: CaseResult, options: ExplanationOptions): [string, string][] {
  const { registry, memoryMap } = options
  const strategy = registry.strategies.get(parseStrategyLabel(result.strategy).name)
  const scenario = registry.scenarios.get(result.scenario)
  const quirks = result.quirks.map((id) => registry.quirks.get(id))
  const { profile, commandLine } = result.kernel
  return [
    ['memory map', memoryMap === undefined ? result.memoryMap : describeMap(memoryMap)],
    [
      'firmware',
      quirks.length === 0
        ? memoryMap?.format === 'snapshot'
          ? 'none: the firmware of the snapshot, with nothing added'
          : 'none: firmware without quirks, as edk2 behaves'
        : `${firmwareLabel(result.quirks)}: ${quirks.map((quirk) => quirk?.title ?? '').join('; ')}`,
    ],
    ...quirks.flatMap((quirk) =>
      (quirk?.sources ?? []).map((source): [string, string] => ['', `seen in ${source}`]),
    ),
    ['strategy', `${result.strategy}: ${strategy?.title ?? ''}`],
    ...swappedStrategy(result, registry),
    ['scenario', `${result.scenario}: ${scenario?.title ?? ''}`],
    ['', (scenario?.steps ?? []).map(({ name }) => name).join(' → ')],
    ['kernel', `address-space layout of ${profile}, command line "${commandLine}"`],
    ['seed', String(result.seed)],
  ]
}

/** What ran in place of the strategy or beside it, where the command line or the scenario chose another. */
function swappedStrategy(
  { strategy, kernel: { commandLine, ran } }: CaseResult,
  registry: PluginRegistry,
): [string, string][] {
  const own = parseStrategyLabel(strategy).name
  const others = ran.filter((name) => name !== own)
  const verb = ran.includes(own) ? 'ran, too' : 'ran in its place'
  const why = commandLine === '' ? '' : `, as the command line "${commandLine}" says`
  if (ran.length === 0) return [['', `no kernel ran it, nor another${why}`]]
  return others.map((name) => [
    '',
    `${verb}${why}: ${name}: ${registry.strategies.get(name)?.title ?? ''}`,
  ])
}

function describeMap(map: MemoryMapSummary): string {
  const from = map.file === null ? '' : ` from ${map.file}`
  return `${map.id}${from}: ${plural(map.descriptors, 'descriptor')}, ${map.runtimeDescriptors} of them runtime, ${formatBytes(map.bytesOfRam)} of memory`
}

function ending({ outcome, reason }: CaseResult, width: number, paint: Paint): string[] {
  const { glyph, style, meaning } = OUTCOME_MARKS[outcome]
  return [`  ${paint(style, `${glyph} ${outcome}`)}: ${meaning}`, ...wrap(reason, width, '  ')]
}

/** The last line of a timeline that broke off: a kernel that stops itself leaves no event. */
function end({ outcome, reason }: CaseResult, width: number, paint: Paint): string[] {
  if (outcome !== 'fault' && outcome !== 'hang') return []
  const { glyph, style } = OUTCOME_MARKS[outcome]
  return wrap(`${glyph} ${reason}`, width, '        ').map((line) => paint(style, line))
}

function servicesSection({ services }: CaseResult, all: boolean, paint: Paint): string[] {
  if (services.length === 0) return []
  const failed = services.filter(({ ok }) => !ok)
  const shown = all ? services : failed
  const rows = shown.map(({ name, status, ok, kernel }) => [
    `  ${ok ? paint('green', '✓') : paint('red', '✗')} ${name}`,
    status,
    kernel,
  ])
  const works = services.length - failed.length
  const note = all || works === 0 ? [] : [`  ${plural(works, 'call')} answered as expected`]
  return [heading('What the services answered', paint), ...alignColumns(rows), ...note]
}

function mean(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(1)
}

function costRows({ cost }: CaseResult): [string, string][] {
  if (cost === null) return []
  const { perCall } = cost
  return [
    ['page tables', `${plural(cost.tablePages, 'page')} of 4 KiB`],
    [
      'mapped',
      `${formatBytes(cost.mappedBytes)} while firmware runs, ${formatBytes(cost.writableExecutableBytes)} of it both writable and executable`,
    ],
    ['page zero', cost.pageZeroMapped ? 'mapped: a NULL dereference goes through' : 'not mapped'],
    [
      'per call',
      `${mean(perCall.cr3Writes)} CR3 writes, ${mean(perCall.globalFlushes)} global flushes, ${mean(perCall.tlbMisses)} TLB misses, ${mean(perCall.walkReferences)} page-table reads`,
    ],
  ]
}
