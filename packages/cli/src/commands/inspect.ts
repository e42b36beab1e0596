import { basename, relative, resolve } from 'node:path'
import { formatAddress, isCanonical } from '@trapdoor/core'
import {
  type CaseTrace,
  createEnvironment,
  findCase,
  HarnessError,
  readMapFile,
  type TableSurvey,
  traceCase,
} from '@trapdoor/harness'
import { readMemoryMaps, toInspection } from '@trapdoor/intake'
import { type Command, Option } from 'commander'
import { formatRights } from '../compare/ranges.ts'
import { ExitCode } from '../exit-code.ts'
import { renderWalk } from '../explain/finding.ts'
import { renderMemoryMaps } from '../inspect/memory-map.ts'
import type { CliIo } from '../io.ts'
import { type ConfigOptions, configOf, withConfigOptions } from '../options.ts'
import { alignColumns, formatBytes, plural } from '../text/layout.ts'
import { createPaint, type Paint } from '../text/paint.ts'

/** Adds `trapdoor inspect map|tables|address`. `finish` is told the exit code. */
export function addInspectCommand(
  program: Command,
  io: CliIo,
  finish: (code: number) => void,
): void {
  const inspect = program
    .command('inspect')
    .description('look at a memory map, at page tables, or at one address')
  inspect
    .command('map')
    .description('the memory maps that a text holds')
    .argument('<file>', 'kernel log, UEFI shell, GRUB, Xen, FreeBSD …: the content decides')
    .addOption(
      new Option('-r, --reporter <name>', 'what to print')
        .choices(['tree', 'json'])
        .default('tree'),
    )
    .action(async (file: string, { reporter }: { reporter: 'tree' | 'json' }) => {
      io.stdout.write(await inspectMap(file, reporter, io))
      finish(ExitCode.Ok)
    })
  withConfigOptions(
    inspect
      .command('tables')
      .description('the merged ranges of every page table that the kernels of a case had')
      .argument('<case>', 'map/firmware/strategy/scenario'),
  ).action(async (id: string, options: ConfigOptions) => {
    const trace = await traceOf(id, options, io)
    io.stdout.write(`${renderTables(trace, createPaint(io)).join('\n')}\n`)
    finish(ExitCode.Ok)
  })
  withConfigOptions(
    inspect
      .command('address')
      .description('the walk of one linear address in every page table of a case')
      .argument('<case>', 'map/firmware/strategy/scenario')
      .argument('<address>', 'linear address, such as 0xffff880000001000'),
  ).action(async (id: string, text: string, options: ConfigOptions) => {
    const address = parseAddress(text)
    const trace = await traceOf(id, options, io)
    io.stdout.write(`${renderAddress(trace, address, createPaint(io)).join('\n')}\n`)
    finish(ExitCode.Ok)
  })
}

async function inspectMap(file: string, reporter: 'tree' | 'json', io: CliIo): Promise<string> {
  const path = resolve(io.cwd, file)
  const bytes = readMapFile(path)
  const read = readMemoryMaps({ file: relative(io.cwd, path) || basename(path), bytes })
  if (reporter === 'json') return `${JSON.stringify(toInspection(read), null, 2)}\n`
  return `${renderMemoryMaps(read, createPaint(io)).join('\n')}\n`
}

async function traceOf(id: string, options: ConfigOptions, io: CliIo): Promise<CaseTrace> {
  const config = await configOf(options, io)
  const spec = findCase(config, id)
  return traceCase(createEnvironment(config), spec)
}

function parseAddress(text: string): bigint {
  const digits = /^(?:0x)?([0-9a-f_']+)$/i.exec(text)?.[1]?.replaceAll(/[_']/g, '')
  const address = digits === undefined ? undefined : BigInt(`0x${digits}`)
  if (address !== undefined && isCanonical(address)) return address
  throw new HarnessError('HARNESS_BAD_ARGUMENT', {
    expected: 'a canonical linear address in hex',
    found: `"${text}"`,
  })
}

function surveyHeading(
  { kernel, name, usedForCalls, tablePages }: TableSurvey,
  paint: Paint,
): string {
  const used = usedForCalls ? ', firmware ran under it' : ''
  return `${paint('bold', `${kernel}, ${name}`)} ${paint('dim', `(${plural(tablePages, 'page')} of tables${used})`)}`
}

function renderTables({ result, surveys }: CaseTrace, paint: Paint): string[] {
  const lines = [paint('bold', result.id)]
  for (const survey of surveys) {
    const rows = survey.ranges.map((range) => [
      `  ${formatAddress(range.start)}-${formatAddress(range.start + BigInt(range.bytes) - 1n)}`,
      formatBytes(range.bytes),
      formatRights(range),
      `${formatBytes(range.pageSize)} pages`,
      `→ ${formatAddress(range.physical)}`,
    ])
    lines.push('', surveyHeading(survey, paint), ...alignColumns(rows, [1]))
  }
  return lines
}

function renderAddress(trace: CaseTrace, address: bigint, paint: Paint): string[] {
  const lines = [`${paint('bold', formatAddress(address))} in ${trace.result.id}`]
  for (const survey of trace.surveys) {
    const found = survey.inspect(address)
    const walk = found.steps.map(({ entry, table, index, value }) => ({
      entry,
      table: `0x${table.toString(16)}`,
      index,
      value: formatAddress(value),
    }))
    lines.push('', surveyHeading(survey, paint), ...renderWalk({ walk }).map((line) => `  ${line}`))
    if (found.status !== 'mapped') {
      lines.push(`  not mapped: ${found.status}`)
      continue
    }
    const { descriptor, owner } = trace.describePhysical(found.physical)
    lines.push(
      `  physical ${formatAddress(found.physical)}, ${found.writable ? 'writable' : 'read-only'}, ${found.executable ? 'executable' : 'not executable'}`,
      `  memory   ${descriptor ?? 'no descriptor of the EFI memory map covers it'}`,
      `  owner    ${owner ?? 'nobody'}`,
    )
  }
  return lines
}
