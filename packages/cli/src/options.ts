import { type CaseFilters, HarnessError, loadConfig, type ResolvedConfig } from '@trapdoor/harness'
import { type Command, Option } from 'commander'
import { BUILT_IN_PLUGINS } from './builtin.ts'
import type { CliIo } from './io.ts'

/** Options of every command that needs a configuration. */
export interface ConfigOptions {
  readonly config?: string
  readonly memoryMap?: readonly string[]
  readonly snapshot?: readonly string[]
  readonly commandLine?: string
  readonly instructionLimit?: number
  readonly seed?: number
  readonly output?: string
}

/** Options that choose cells of the matrix. */
export interface FilterOptions {
  readonly firmware?: readonly string[]
  readonly strategy?: readonly string[]
  readonly scenario?: readonly string[]
  readonly memoryMapId?: readonly string[]
}

/** Adds --config alone, for commands that only ask which plugins there are. */
export function withConfigFile(command: Command): Command {
  return command.option(
    '-c, --config <file>',
    'configuration file (default: trapdoor.config.* here)',
  )
}

/** Adds --config, --memory-map, --snapshot, --command-line and --instruction-limit. */
export function withConfigOptions(command: Command): Command {
  return withConfigFile(command)
    .addOption(
      listOption(
        command,
        '-m, --memory-map <file>',
        "kernel log or other text with a memory map, FILE or id=FILE (ia32:FILE where the firmware has 32 bits; the id is else the file's name without extension); replaces those of the configuration",
      ),
    )
    .addOption(
      listOption(
        command,
        '--snapshot <folder>',
        'real firmware in place of a memory map and a model: what `trapdoor capture` has written, FOLDER or id=FOLDER',
      ),
    )
    .option('--command-line <text>', "the first kernel's command line, such as virtefi")
    .addOption(
      new Option(
        '--instruction-limit <number>',
        'instructions after which a call of a real firmware is taken for one that does not end (default: 100 million)',
      ).argParser((text) =>
        wholeNumber(text, /^[1-9]\d{0,14}$/, 'a number of instructions from 1'),
      ),
    )
}

/** Adds --firmware, --strategy, --scenario and --memory-map-id. */
export function withFilterOptions(command: Command): Command {
  const filters = [
    ['-f, --firmware <quirk>', 'only these: none, Q06, Q01+Q20, or *'],
    ['-s, --strategy <name>', 'only these: name or name:option=value,…'],
    ['--scenario <name>', 'only these scenarios'],
    ['--memory-map-id <id>', 'only on these memory maps of the configuration'],
  ] as const
  for (const [flags, description] of filters) {
    command.addOption(listOption(command, flags, description))
  }
  return command
}

/**
 * An option that may be repeated. Where the command has no arguments of its own it also takes several words (`-m logs/*.txt`);
 * elsewhere it would swallow the arguments.
 */
function listOption(command: Command, flags: string, description: string): Option {
  if (command.registeredArguments.length === 0) {
    return new Option(flags.replace('>', '...>'), description)
  }
  return new Option(flags, description).argParser(
    (value: string, previous: readonly string[] | undefined) => [...(previous ?? []), value],
  )
}

/** `--seed`, a whole number from 0. */
export function seedOption(): Option {
  return new Option('--seed <number>', 'seed of the run (default: 1)').argParser((text) =>
    wholeNumber(text, /^\d{1,15}$/, 'a seed as a whole number from 0'),
  )
}

/** `--jobs`, threads from 1. */
export function jobsOption(): Option {
  return new Option(
    '-j, --jobs <number>',
    'threads that run cases (default: one for each processor)',
  ).argParser((text) => wholeNumber(text, /^[1-9]\d{0,2}$/, 'a number of threads from 1 to 999'))
}

/** A number that a text is, where it has the pattern; else an error says what was expected. */
export function wholeNumber(text: string, pattern: RegExp, expected: string): number {
  if (pattern.test(text)) return Number(text)
  throw new HarnessError('HARNESS_BAD_ARGUMENT', { expected, found: `"${text}"` })
}

/** The configuration that the options lead to, with the built-in plugins. */
export function configOf(options: ConfigOptions, io: Pick<CliIo, 'cwd'>): Promise<ResolvedConfig> {
  const { config, memoryMap, snapshot, commandLine, instructionLimit, seed, output } = options
  return loadConfig({
    directory: io.cwd,
    file: config,
    builtIn: BUILT_IN_PLUGINS,
    overrides: {
      ...(memoryMap === undefined ? {} : { memoryMaps: memoryMap }),
      ...(snapshot === undefined ? {} : { snapshots: snapshot }),
      ...(commandLine === undefined ? {} : { commandLine }),
      ...(instructionLimit === undefined ? {} : { instructionLimit }),
      ...(seed === undefined ? {} : { seed }),
      ...(output === undefined || output === '-' ? {} : { output }),
    },
  })
}

/** The cells that the options choose. */
export function filtersOf(options: FilterOptions): CaseFilters {
  return {
    firmware: options.firmware,
    strategies: options.strategy,
    scenarios: options.scenario,
    memoryMaps: options.memoryMapId,
  }
}
