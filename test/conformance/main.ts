import { availableParallelism } from 'node:os'
import { performance } from 'node:perf_hooks'

import { Command, InvalidArgumentError } from 'commander'

import type { Size } from './runner/conformance-set.ts'
import { Report } from './runner/report.ts'
import { checkDefects } from './runner/self-check.ts'
import { SETS, setsNamed } from './sets.ts'
import { runOnThreads } from './runner/worker-pool.ts'

interface Options {
  readonly full?: true
  readonly set?: readonly string[]
  readonly list?: true
  readonly selfCheck?: true
  readonly jobs: number
}

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

function parseJobs(text: string): number {
  const jobs = Number(text)
  if (!Number.isInteger(jobs) || jobs < 1)
    throw new InvalidArgumentError('expected a number of threads, 1 or more')
  return jobs
}

const program = new Command('conformance')
  .description(
    'Compares the MMU of @trapdoor/core, combination by combination, with an oracle written from the manuals.',
  )
  .option('--full', 'every combination of every set; without it, a systematic part')
  .option('--set <name...>', 'only these sets, or all below a name, such as access/5-level')
  .option('--list', 'name the sets and what they multiply, and run none')
  .option('--self-check', 'put seeded defects into the oracle and tell whether each is noticed')
  .option('--jobs <number>', 'threads', parseJobs, availableParallelism())
  .showHelpAfterError()
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()

const options = program.opts<Options>()
const size: Size = options.full === true ? 'full' : 'small'
const selected =
  options.set === undefined
    ? SETS
    : options.set.flatMap((name) => {
        const named = setsNamed(name)
        if (named.length === 0) program.error(`no set is called ${name}; --list names them`)
        return named
      })

if (options.list === true) for (const set of selected) print(`${set.name.padEnd(34)}${set.title}`)
else if (options.selfCheck === true) process.exitCode = checkDefects(print) ? 0 : 1
else {
  const sets = selected.filter((set) => set.chunks(size) > 0)
  const report = new Report(sets, size, print)
  const tasks = sets.flatMap((set) =>
    Array.from({ length: set.chunks(size) }, (_, chunk) => ({ set: set.name, chunk, size })),
  )
  const start = performance.now()
  await runOnThreads(tasks, options.jobs, (finished) => report.add(finished))
  process.exitCode = report.finish((performance.now() - start) / 1000) ? 0 : 1
}
