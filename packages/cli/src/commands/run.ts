import { readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import {
  collectResults,
  createEnvironment,
  type ExpectedOutcomes,
  explainCommand,
  HarnessError,
  parseExpected,
  planCases,
  refuseUnwritable,
  type ResolvedConfig,
  serializeExpected,
  serializeResults,
  surprises,
  writeFileAtomically,
} from '@trapdoor/harness'
import { type Command, Option } from 'commander'
import { asTyped } from '../command-prefix.ts'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import {
  type ConfigOptions,
  configOf,
  type FilterOptions,
  filtersOf,
  jobsOption,
  seedOption,
  withConfigOptions,
  withFilterOptions,
} from '../options.ts'
import { type Reporter, REPORTERS, renderReport } from '../results/report.ts'
import { runCases } from '../run/run-cases.ts'

interface RunOptions extends ConfigOptions, FilterOptions {
  readonly reporter: Reporter
  /** False after --no-output. */
  readonly output?: string
  readonly updateExpected?: true
  readonly jobs?: number
}

/** Adds `trapdoor run`. `finish` is told the exit code. */
export function addRunCommand(program: Command, io: CliIo, finish: (code: number) => void): void {
  const command = program
    .command('run')
    .description('run the matrix of firmware, strategies and scenarios')
  withFilterOptions(withConfigOptions(command))
    .addOption(seedOption())
    .addOption(
      new Option('-r, --reporter <name>', 'what to print').choices(REPORTERS).default('tree'),
    )
    .option('-o, --output <file>', 'where the results go, - for stdout (default: results.json)')
    .option('--no-output', 'write no results')
    .addOption(jobsOption())
    .option('--update-expected', "write the configuration's file of expected outcomes")
    .action(async (options: Omit<RunOptions, 'output'> & { output?: string | false }) => {
      const { output, ...others } = options
      finish(
        await run({ ...others, ...(typeof output === 'string' ? { output } : {}) }, output, io),
      )
    })
}

async function run(
  options: RunOptions,
  output: string | false | undefined,
  io: CliIo,
): Promise<number> {
  const config = await configOf(options, io)
  const specs = planCases(config, filtersOf(options))
  const expected = await expectedOutcomes(config, options)
  const files = [
    ...(output === '-' || output === false ? [] : [config.output]),
    ...(options.updateExpected === true && config.expect !== undefined ? [config.expect] : []),
  ]
  for (const file of files) await refuseUnwritable(file)
  const environment = createEnvironment(config)
  const cases = await runCases(environment, specs, { io, config: options, jobs: options.jobs })
  if (cases === undefined) return ExitCode.Interrupted
  const results = collectResults(config, environment.memoryMaps, cases)

  const unexpected =
    options.updateExpected === true ? [] : surprises(results.cases, expected ?? new Map())
  const wantsText = output === '-'
  if (wantsText) io.stdout.write(serializeResults(results))
  else {
    io.stdout.write(
      renderReport(options.reporter, results, {
        io,
        surprises: unexpected,
        expected: expected === undefined ? undefined : relative(io.cwd, config.expect!),
        explain: (id) => asTyped(explainCommand(config, id), io),
      }),
    )
  }
  if (!wantsText && output !== false) {
    await writeFileAtomically(config.output, serializeResults(results))
    if (options.reporter === 'tree') {
      io.stdout.write(`results in ${shown(config.output, io.cwd)}\n`)
    }
  }
  if (options.updateExpected === true && config.expect !== undefined) {
    await writeFileAtomically(config.expect, serializeExpected(results.cases))
  }
  return unexpected.length === 0 ? ExitCode.Ok : ExitCode.Finding
}

/** A file as a user would name it: from here where it is below, in full elsewhere. */
function shown(file: string, cwd: string): string {
  const inside = relative(cwd, file)
  return inside.startsWith('..') ? file : inside
}

/** Undefined where every case is expected to be ok. */
async function expectedOutcomes(
  config: ResolvedConfig,
  { updateExpected }: RunOptions,
): Promise<ExpectedOutcomes | undefined> {
  if (config.expect === undefined) {
    if (updateExpected !== true) return undefined
    throw new HarnessError('HARNESS_BAD_CONFIG', {
      expected: 'a configuration that says where expected outcomes go',
      found: 'none',
      hint: 'add expect: "expected.json"',
      file: config.file,
    })
  }
  if (updateExpected === true) return undefined
  try {
    return parseExpected(await readFile(config.expect, 'utf8'), config.expect)
  } catch (cause) {
    if (cause instanceof HarnessError) throw cause
    throw new HarnessError('HARNESS_UNREADABLE_FILE', {
      expected: 'a file of expected outcomes',
      found: cause instanceof Error ? cause.message : String(cause),
      hint: '`trapdoor run --update-expected` writes it',
      file: config.expect,
      cause,
    })
  }
}
