import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Command, InvalidArgumentError, Option } from 'commander'

import { Experiment } from './experiment.ts'
import { KNOWN_FAULTS } from './known-faults.ts'
import { BOCHS } from './machines/bochs.ts'
import { type Emulator, EmulatorError } from './machines/emulator.ts'
import { QEMU } from './machines/qemu.ts'
import { describeComparison, describeStrayChange } from './wording.ts'

interface Options {
  readonly cases?: number
  readonly seed: number
  readonly machine: 'qemu' | 'bochs' | 'all'
  readonly replay?: number
}

const EMULATORS: readonly Emulator[] = [QEMU, BOCHS]
/** What the files of the guests need in a file system that lies in memory. */
const SHARED_MEMORY_BYTES = 512 * 2 ** 20
/** Progress is told after such a part of the cases. */
const PROGRESS_STEP = 0.1

const defaultCases = EMULATORS.map((emulator) => `${emulator.name} ${emulator.defaultCases}`)
const program = new Command('emulators')
  .description(
    'Runs random page tables and accesses on QEMU and Bochs and compares them with our machine, case by case.',
  )
  .option(
    '--cases <n>',
    `how many cases each emulator gets (default: ${defaultCases.join(', ')})`,
    parseCount,
  )
  .option('--seed <n>', 'which cases', parseCount, 1)
  .addOption(
    new Option('--machine <name>', 'which emulator')
      .choices([...EMULATORS.map(({ name }) => name), 'all'])
      .default('all'),
  )
  .option('--replay <index>', 'run one case of the seed alone, and print it', parseCount)
  .addHelpText(
    'after',
    '\nExit codes: 0 all cases as expected, 1 differences, 2 bad usage, or an emulator is missing or failed.',
  )
  .showHelpAfterError()
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()

const options = program.opts<Options>()
const emulators = EMULATORS.filter(
  ({ name }) => options.machine === 'all' || options.machine === name,
)
const directory = mkdtempSync(join(temporaryParent(), 'trapdoor-emulators-'))
process.on('exit', () => {
  rmSync(directory, { recursive: true, force: true })
})
process.on('SIGINT', () => process.exit(130))
process.on('SIGTERM', () => process.exit(143))

const outcomes = await Promise.allSettled(emulators.map((emulator) => runExperiment(emulator)))
let exitCode = 0
for (const [at, outcome] of outcomes.entries()) {
  const { name } = emulators[at]!
  if (outcome.status === 'fulfilled') {
    if (!report(outcome.value)) exitCode = Math.max(exitCode, 1)
    continue
  }
  if (!(outcome.reason instanceof EmulatorError)) throw outcome.reason
  const { code, message, hint } = outcome.reason
  console.error(`${name}: error ${code}: ${message}\nhint ${hint}`)
  exitCode = 2
}
process.exitCode = exitCode

async function runExperiment(emulator: Emulator): Promise<Experiment> {
  const experiment = new Experiment(emulator, KNOWN_FAULTS, options.seed, directory)
  const first = options.replay ?? 0
  const count = options.replay === undefined ? (options.cases ?? emulator.defaultCases) : 1
  let told = 0
  await experiment.run(first, first + count, ({ compared, differing }) => {
    if (compared - told < count * PROGRESS_STEP || compared === count) return
    told = compared
    console.log(`${emulator.name}: ${compared} of ${count} cases, ${differing} differences`)
  })
  return experiment
}

/** Prints what came out, and tells whether all was as expected. */
function report(experiment: Experiment): boolean {
  const { emulator, compared, differing, straying } = experiment
  const again = `--machine ${emulator.name} --seed ${options.seed} --replay`
  if (options.replay === undefined) {
    console.log(
      `\n${emulator.name}, seed ${options.seed}: ${compared} cases, ${differing} differences`,
    )
    reportCoverage(experiment)
    for (const difference of experiment.differences) {
      console.log(`\n${describeComparison(difference)}\n  again: ${again} ${difference.index}`)
    }
  } else if (experiment.latest !== undefined) {
    console.log(`${emulator.name}: ${differing === 0 ? 'as expected' : 'different'}`)
    console.log(describeComparison(experiment.latest))
  }
  for (const change of experiment.strayChanges) console.log(describeStrayChange(change))
  if (straying > 0) console.log(`${straying} entries were changed that no case led to`)
  return differing === 0 && straying === 0
}

/** How the cases ended, and what each known fault excused. */
function reportCoverage({ endings, faultUses }: Experiment): void {
  const byCount = [...endings].toSorted(([, left], [, right]) => right - left)
  for (const [ending, count] of byCount) console.log(`  ${String(count).padStart(8)} ${ending}`)
  const isFull = options.cases === undefined
  for (const [{ id, fault }, uses] of faultUses) {
    const unused = isFull && uses === 0 ? ' NEVER SEEN, so it should leave the list:' : ''
    console.log(`  known fault ${id}: ${uses} cases;${unused} ${fault}`)
  }
}

/** A folder in memory where there is one that is large enough. */
function temporaryParent(): string {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm')
    if (bavail * bsize >= SHARED_MEMORY_BYTES) return '/dev/shm'
  } catch {
    // There is none.
  }
  return tmpdir()
}

function parseCount(text: string): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('expected a whole number')
  }
  return value
}
