import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

import { Command, InvalidArgumentError } from 'commander'
import { Tinypool } from 'tinypool'

import type { FormResult } from './experiment.ts'
import type { FormTask } from './form-worker.ts'
import { collectFromFiles } from './forms/collect-files.ts'
import { describeForm, type Form } from './forms/form.ts'
import { FORM_LISTS, type FormList } from './forms/lists.ts'
import { HostError, HostProcessor, modeOf } from './native/host.ts'
import { planForms } from './plan.ts'
import { Report } from './report.ts'
import { checkDefects } from './self-check.ts'

interface Options {
  readonly cases: number
  readonly seed: number
  readonly set?: readonly string[]
  readonly form?: string
  readonly case?: number
  readonly collect?: readonly string[]
  readonly selfCheck?: true
  readonly list?: true
  readonly jobs: number
}

/** Forms that a thread gets at a time. */
const FORMS_OF_TASK = 8

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

function parseCount(text: string): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('expected a whole number')
  }
  return value
}

const program = new Command('instructions')
  .description(
    'Runs single instructions with random operands and flags on our CPU and on the processor of this machine, and compares what they leave.',
  )
  .option('--cases <n>', 'cases of each form', parseCount, 1000)
  .option('--seed <n>', 'which cases', parseCount, 1)
  .option(
    '--set <name...>',
    `which forms: ${FORM_LISTS.map(({ name }) => name).join(', ')} (default: all)`,
  )
  .option('--form <text>', 'only forms whose line has this text')
  .option('--case <index>', 'only this case of each form', parseCount)
  .option('--list', 'print the lines of the forms, and run none')
  .option('--collect <path...>', 'print the forms that ELF files and snapshot folders use')
  .option('--self-check', 'put seeded defects into our CPU and tell whether each is noticed')
  .option('--jobs <number>', 'threads', parseCount, availableParallelism())
  .addHelpText(
    'after',
    '\nExit codes: 0 no difference, 1 differences or missing instructions, 2 bad usage, or a host that cannot be asked.',
  )
  .showHelpAfterError()
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()

const options = program.opts<Options>()
const sets = selectSets(options.set)
let host: HostProcessor | undefined
try {
  if (options.collect !== undefined) {
    for (const line of collectFromFiles(options.collect, readFileSync)) print(line)
  } else if (options.list === true) {
    for (const form of selectForms(sets)) print(describeForm(form))
  } else {
    host = await HostProcessor.compile()
    const isFine = options.selfCheck === true ? await checkDefects(host, print) : await run(host)
    process.exitCode = isFine ? 0 : 1
  }
} catch (error) {
  if (!(error instanceof HostError)) throw error
  console.error(`error ${error.code}: ${error.message}\nhint ${error.hint}`)
  process.exitCode = 2
} finally {
  await host?.dispose()
}

function selectSets(names: readonly string[] | undefined): readonly FormList[] {
  if (names === undefined) return FORM_LISTS
  return names.map((name) => {
    const found = FORM_LISTS.find((list) => list.name === name)
    if (found === undefined) return program.error(`error: no set is called ${name}`)
    return found
  })
}

function selectForms(lists: readonly FormList[]): Form[] {
  const lines = new Map<string, Form>()
  for (const { forms } of lists) for (const form of forms) lines.set(describeForm(form), form)
  return [...lines]
    .filter(([line]) => options.form === undefined || line.includes(options.form))
    .map(([, form]) => form)
}

/** Runs the forms that were chosen on threads, and reports. Whether no difference was found, and no instruction missing. */
async function run(processor: HostProcessor): Promise<boolean> {
  const features = await processor.features()
  const plan = planForms(selectForms(sets), features)
  const mode = modeOf(features)
  const selection =
    options.case === undefined
      ? { seed: options.seed, first: 0, count: options.cases }
      : { seed: options.seed, first: options.case, count: 1 }
  const tasks = plan.groups.flatMap(({ shape, forms }) =>
    Array.from({ length: Math.ceil(forms.length / FORMS_OF_TASK) }, (_, at): FormTask => ({
      program: processor.program,
      mode,
      forms: forms.slice(at * FORMS_OF_TASK, (at + 1) * FORMS_OF_TASK).map(describeForm),
      shape,
      selection,
    })),
  )
  const pool = new Tinypool({
    filename: new URL('form-worker.ts', import.meta.url).href,
    minThreads: options.jobs,
    maxThreads: options.jobs,
  })
  const report = new Report(print, options.seed)
  try {
    const running = tasks.map((task) => pool.run(task) as Promise<FormResult[]>)
    // Those behind one that fails are rejected when the pool ends.
    for (const task of running) task.catch(() => undefined)
    for (const [at, task] of running.entries()) {
      report.add(await task)
      report.progress(at + 1, running.length)
    }
  } finally {
    await pool.destroy()
  }
  return report.finish(plan, sets)
}
