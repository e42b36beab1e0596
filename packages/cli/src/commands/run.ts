import { readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import {
  type CaseResult,
  type CaseSpec,
  collectResults,
  createEnvironment,
  type ExpectedOutcomes,
  explainCommand,
  HarnessError,
  parseExpected,
  planCases,
  type ResolvedConfig,
  type Results,
  runCase,
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
  seedOption,
  withConfigOptions,
  withFilterOptions,
} from '../options.ts'
import { Progress } from '../progress.ts'
import { type Reporter, REPORTERS, renderReport } from '../results/report.ts'

interface RunOptions extends ConfigOptions, FilterOptions {
  readonly reporter: Reporter
  /** False after --no-output. */
  readonly output?: string
  readonly updateExpected?: true
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
  const results = await runAll(config, specs, io)
  if (results === undefined) return ExitCode.Interrupted

  const unexpected =
    options.updateExpected === true ? [] : surprises(results.cases, expected ?? new Map())
  const wantsText = output === '-'
  if (wantsText) io.stdout.write(serializeResults(results))
  else if (output !== false) await writeFileAtomically(config.output, serializeResults(results))
  if (options.updateExpected === true && config.expect !== undefined) {
    await writeFileAtomically(config.expect, serializeExpected(results.cases))
  }
  if (!wantsText) {
    io.stdout.write(
      renderReport(options.reporter, results, {
        io,
        surprises: unexpected,
        expected: expected === undefined ? undefined : relative(io.cwd, config.expect!),
        explain: (id) => asTyped(explainCommand(config, id), io),
      }),
    )
    if (output !== false && options.reporter === 'tree') {
      io.stdout.write(`results in ${relative(io.cwd, config.output)}\n`)
    }
  }
  return unexpected.length === 0 ? ExitCode.Ok : ExitCode.Finding
}

/** Undefined when the user interrupted. */
async function runAll(
  config: ResolvedConfig,
  specs: readonly CaseSpec[],
  io: CliIo,
): Promise<Results | undefined> {
  const environment = createEnvironment(config)
  const progress = new Progress(io, specs.length)
  const cases: CaseResult[] = []
  for (const [index, spec] of specs.entries()) {
    // A pending interrupt is delivered only when this gives way.
    if (index % 16 === 0) await setImmediate()
    if (io.signal?.aborted === true) {
      progress.finish()
      io.stderr.write(`interrupted after ${cases.length} of ${specs.length} cases\n`)
      return undefined
    }
    cases.push(runCase(environment, spec))
    progress.step(spec.memoryMapId)
  }
  progress.finish()
  return collectResults(config, environment.memoryMaps, cases)
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
