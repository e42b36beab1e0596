import type { Plugin, PluginPart, PluginRegistry } from '@trapdoor/harness'
import { Argument, type Command } from 'commander'
import { BUILT_IN_PLUGINS } from '../builtin.ts'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import { type ConfigOptions, configOf, withConfigFile } from '../options.ts'
import { wrap, wrapLastColumn } from '../text/layout.ts'
import { createPaint, type Paint } from '../text/paint.ts'

const KINDS = ['quirks', 'strategies', 'scenarios', 'rules', 'plugins'] as const
type Kind = (typeof KINDS)[number]

/** Adds `trapdoor list`. `finish` is told the exit code. */
export function addListCommand(program: Command, io: CliIo, finish: (code: number) => void): void {
  const command = program
    .command('list')
    .description('quirks, strategies, scenarios, rules and plugins there are')
    .addArgument(new Argument('[kind]', 'only these').choices(KINDS))
  withConfigFile(command).action(async (kind: Kind | undefined, options: ConfigOptions) => {
    const { registry } = await configOf(options, io)
    const paint = createPaint(io)
    const width = Math.max(60, io.columns ?? 100)
    const sections = KINDS.filter((each) => kind === undefined || each === kind).map((each) => {
      const room = { width: kind === undefined ? width - 2 : width, paint }
      const lines = linesOf(each, registry, room)
      return kind === undefined ? [paint('bold', each), ...lines].join('\n  ') : lines.join('\n')
    })
    io.stdout.write(`${sections.join('\n\n')}\n`)
    finish(ExitCode.Ok)
  })
}

/** How wide lines may be, and their colours. */
interface Room {
  readonly width: number
  readonly paint: Paint
}

function linesOf(kind: Kind, registry: PluginRegistry, { width, paint }: Room): string[] {
  /** Who brings it, where that is not Trapdoor itself. */
  const from = (part: PluginPart, name: string): string => {
    const plugin = registry.pluginOf(part, name)
    const isBuiltIn = BUILT_IN_PLUGINS.some((each) => each.name === plugin)
    return isBuiltIn ? '' : ` ${paint('dim', `(${plugin})`)}`
  }
  switch (kind) {
    case 'quirks':
      return wrapLastColumn(
        [...registry.quirks.values()].map(({ id, name, title }) => [
          id,
          name,
          `${title}${from('quirk', id)}`,
        ]),
        width,
      )
    case 'strategies':
      return strategyLines(registry, from, width)
    case 'scenarios':
      return wrapLastColumn(
        [...registry.scenarios.values()].map(({ name, title }) => [
          name,
          `${title}${from('scenario', name)}`,
        ]),
        width,
      )
    case 'rules':
      return wrapLastColumn(
        [...registry.rules.values()].map(({ id, severity, title }) => [
          id,
          severity,
          `${title}${from('rule', id)}`,
        ]),
        width,
      )
    case 'plugins':
      break
  }
  return wrapLastColumn(
    registry.plugins.map((plugin) => [plugin.name, plugin.version ?? '', partsOf(plugin)]),
    width,
  )
}

/** Strategies with their options below them. */
function strategyLines(
  registry: PluginRegistry,
  from: (part: PluginPart, name: string) => string,
  width: number,
): string[] {
  const strategies = [...registry.strategies.values()]
  return wrapLastColumn(
    strategies.map(({ name, mode, title }) => [name, mode, `${title}${from('strategy', name)}`]),
    width,
    strategies.map(({ options = {} }) =>
      Object.entries(options).flatMap(([option, declared]) =>
        wrap(
          `:${option}=${declared.values.join('|')}  ${declared.title} (default: ${declared.default})`,
          width,
          '      ',
        ),
      ),
    ),
  )
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
