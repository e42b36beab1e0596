import type { Plugin, PluginPart, PluginRegistry } from '@trapdoor/harness'
import { Argument, type Command } from 'commander'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import { type ConfigOptions, configOf, withConfigOptions } from '../options.ts'
import { alignColumns } from '../text/layout.ts'
import { createPaint, type Paint } from '../text/paint.ts'

const KINDS = ['quirks', 'strategies', 'scenarios', 'rules', 'plugins'] as const
type Kind = (typeof KINDS)[number]

/** Adds `trapdoor list`. `finish` is told the exit code. */
export function addListCommand(program: Command, io: CliIo, finish: (code: number) => void): void {
  const command = program
    .command('list')
    .description('quirks, strategies, scenarios, rules and plugins there are')
    .addArgument(new Argument('[kind]', 'only these').choices(KINDS))
  withConfigOptions(command).action(async (kind: Kind | undefined, options: ConfigOptions) => {
    const { registry } = await configOf(options, io)
    const paint = createPaint(io)
    const sections = KINDS.filter((each) => kind === undefined || each === kind).map((each) => {
      const lines = alignColumns(rowsOf(each, registry, paint))
      return kind === undefined ? [paint('bold', each), ...lines].join('\n  ') : lines.join('\n')
    })
    io.stdout.write(`${sections.join('\n\n')}\n`)
    finish(ExitCode.Ok)
  })
}

function rowsOf(kind: Kind, registry: PluginRegistry, paint: Paint): string[][] {
  const from = (part: PluginPart, name: string): string =>
    paint('dim', registry.pluginOf(part, name) ?? '')
  switch (kind) {
    case 'quirks':
      return [...registry.quirks.values()].map(({ id, name, title }) => [
        id,
        name,
        title,
        from('quirk', id),
      ])
    case 'strategies':
      return [...registry.strategies.values()].flatMap((strategy) => {
        const { name, title, mode, options = {} } = strategy
        const rows = Object.entries(options).map(([option, declared]) => [
          `  :${option}=${declared.values.join('|')}`,
          '',
          `${declared.title} (default: ${declared.default})`,
        ])
        return [[name, mode, title, from('strategy', name)]].concat(rows)
      })
    case 'scenarios':
      return [...registry.scenarios.values()].map(({ name, title }) => [
        name,
        title,
        from('scenario', name),
      ])
    case 'rules':
      return [...registry.rules.values()].map(({ id, severity, title }) => [
        id,
        severity,
        title,
        from('rule', id),
      ])
    case 'plugins':
      break
  }
  return registry.plugins.map((plugin) => [plugin.name, plugin.version ?? '', partsOf(plugin)])
}

function partsOf({ quirks = [], strategies = [], scenarios = [], rules = [] }: Plugin): string {
  const parts = [
    quirks.map(({ id }) => id),
    strategies.map(({ name }) => name),
    scenarios.map(({ name }) => name),
    rules.map(({ id }) => id),
  ]
  return parts.flat().join(' ')
}
