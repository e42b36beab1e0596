import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect, isDeepStrictEqual } from 'node:util'

import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import { PluginRegistry } from '@trapdoor/harness'
import { firmwareArchitectureOf, type StrategyChoice } from '@trapdoor/kernel'
import { type FirmwareSnapshot, readObservedSnapshot } from '@trapdoor/snapshot'
import { MemoryType } from '@trapdoor/uefi'
import { Command } from 'commander'

import { IS_INSTALLED, ovmf, snapshotOf } from '../capture/firmwares.ts'
import {
  listVariables,
  type Made,
  RESETS,
  type Step,
  STEPS,
  STEPS_AFTER_RESTART,
  stepNamed,
} from './calls.ts'
import { type Build, compareWithTwin, describe, flashOf } from './comparison.ts'
import { type Gap, strategyWith } from './gaps.ts'
import { Session, type SessionOptions } from './session.ts'

/** MiB of the machines: all of it is compared. */
const MEMORY = 128
/** The strategies that builds beside the usual one are called under: of 2010, and of today. */
const SOME = ['private-efi-pgd', 'linux-6.1'] as const
/** Those whose kernels call nothing but SetVirtualAddressMap when they boot, for firmware that has its variables in system-management mode. */
const WITHOUT_VARIABLES = ['private-efi-pgd', 'legacy-virtual'] as const
/** Every so many strategies each call is made again, and on builds with few that can be. */
const THOROUGH = 8
/** Calls that end in an exception must differ so often in service or cause. */
const LEAST_FAULTS = 10
/** Two machines of QEMU at once: a call here is short. */
const AT_ONCE = 2

/** What a kernel is booted for: the calls that are made again on QEMU, one after the other. */
interface Cell {
  readonly name: string
  /** Name of the strategy, and where arguments are if it is not the stack. */
  readonly kernel: string
  readonly build: Build
  readonly calls: () => AsyncGenerator<Made>
  /** Whether what was expected of results counts: not where firmware is to fault. */
  readonly isToWork: boolean
  /** Whether each call is made again on QEMU, or only those that always are. */
  readonly isThorough: boolean
}

/** What came of a cell. */
interface Report {
  readonly lines: readonly string[]
  readonly made: readonly {
    readonly service: string
    /** The name of the strategy where it ended in an exception: what the tables lack, or the arguments. */
    readonly faultsUnder: string | undefined
  }[]
  readonly differing: number
}

const program = new Command('twins')
  .description(
    "Makes calls of Debian's OVMF under every strategy, and under tables with gaps, and makes each again on QEMU from the same memory, page tables and registers: how it ends, every register, what it does at ports, all memory and the flash have to agree.",
  )
  .option('--all', 'every strategy on every build, which takes long')
  .option('--cells <text>', 'only kernels whose line has this text')
  .addHelpText(
    'after',
    '\nExit codes: 0 all agree, 1 differences or too few calls, 2 bad usage, or QEMU or OVMF is missing.',
  )
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()
const { all = false, cells = '' } = program.opts<{ all?: boolean; cells?: string }>()

if (!IS_INSTALLED) {
  console.error('error TWINS_MISSING: QEMU or OVMF is not installed')
  console.error('hint apt-get install --no-install-recommends qemu-system-x86 ovmf ovmf-ia32')
  process.exit(2)
}

const registry = new PluginRegistry(BUILT_IN_PLUGINS)
const choices = [...registry.strategies.values()].map((definition): StrategyChoice => ({
  definition,
}))
const strategies = choices.filter((choice) => firmwareArchitectureOf(choice).name === 'x64')
/** For 32-bit firmware: 64-bit kernels in mixed mode, and 32-bit kernels. */
const of32Bits = choices.filter((choice) => firmwareArchitectureOf(choice).name === 'ia32')
const folder = mkdtempSync(join(tmpdir(), 'trapdoor-twins-'))
try {
  process.exitCode = (await runAll()) ? 0 : 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** Returns whether all agree, and there was enough of it to say so. */
async function runAll(): Promise<boolean> {
  const reports: Report[] = []
  const running: Promise<Report>[] = []
  const takeNext = async (): Promise<void> => {
    const report = await running.shift()!
    for (const line of report.lines) console.log(line)
    reports.push(report)
  }
  for (const cell of (await allCells()).filter(({ name }) => name.includes(cells))) {
    running.push(runCell(cell))
    if (running.length === AT_ONCE) await takeNext()
  }
  while (running.length > 0) await takeNext()
  const calls = reports.flatMap((report) => report.made)
  const services = new Set(calls.map(({ service }) => service))
  const faults = calls.filter(({ faultsUnder }) => faultsUnder !== undefined)
  const causes = new Set(faults.map(({ faultsUnder }) => faultsUnder))
  const pairs = new Set(faults.map(({ service, faultsUnder }) => `${service} ${faultsUnder}`))
  const differing = reports.reduce((sum, report) => sum + report.differing, 0)
  const idle = reports.filter(({ made }) => made.length === 0).length
  console.log(
    `\n${calls.length} calls of ${services.size} services under ${strategies.length + of32Bits.length} strategies, ${differing} differences\n${faults.length} of them end in an exception here and on QEMU: ${pairs.size} that differ in service or cause, of ${causes.size} causes`,
  )
  const isEnough = reports.length > 0 && (cells !== '' || pairs.size >= LEAST_FAULTS)
  if (idle > 0) console.log(`✗ under ${idle} kernels no call was made again on QEMU`)
  if (!isEnough) console.log(`✗ ${LEAST_FAULTS} different faults at least are due`)
  return differing === 0 && idle === 0 && isEnough
}

/** Every strategy on the usual build; on the other builds some, a few of them on each, unless all are wanted; and tables with gaps. */
async function allCells(): Promise<Cell[]> {
  const usual = await build('q35', 'OVMF_CODE_4M.fd')
  const others = [
    await build('pc', 'OVMF_CODE.fd'),
    await build('q35', 'OVMF_CODE.fd'),
    await build('pc', 'OVMF_CODE_4M.fd'),
    await build('q35', 'OVMF_CODE.secboot.fd'),
    await build('q35', 'OVMF_CODE_4M.secboot.fd'),
  ]
  const thirtyTwoBit = await build('q35', 'OVMF32_CODE_4M.secboot.fd')
  return [
    ...strategies.map((strategy, turn) => strategyCell(strategy, usual, turn)),
    ...others.flatMap((each) =>
      strategiesFor(each).map((strategy, turn) => strategyCell(strategy, each, turn)),
    ),
    ...gapCells(usual),
    ...of32Bits.map((strategy, turn) => strategyCell(strategy, thirtyTwoBit, turn)),
  ]
}

/** The strategies that another build than the usual one is called under. */
function strategiesFor({ snapshot }: Build): readonly StrategyChoice[] {
  if (all && !snapshot.smm) return strategies
  const names = snapshot.smm ? WITHOUT_VARIABLES : SOME
  return names.map((name) => ({ definition: registry.strategy(name) }))
}

async function build(board: 'pc' | 'q35', code: string): Promise<Build> {
  const firmware = ovmf(code)
  const path = await snapshotOf({ board, firmware, memory: MEMORY })
  return {
    name: `${board} ${code}`,
    firmware,
    snapshot: readObservedSnapshot(path),
    codeFlashBytes: statSync(firmware).size,
  }
}

/** Every call under a strategy. */
function strategyCell(strategy: StrategyChoice, each: Build, turn: number): Cell {
  const { definition } = strategy
  return {
    name: `${definition.name}, ${each.name}`,
    kernel: definition.name,
    build: each,
    isToWork: true,
    isThorough: all || each.snapshot.smm || turn % THOROUGH === 0,
    calls: async function* () {
      const options = { snapshot: each.snapshot, strategy }
      const session = Session.start(options)
      const { virtualAddressMap } = session
      if (definition.mode === 'virtual' && virtualAddressMap !== undefined) {
        yield { name: 'SetVirtualAddressMap', call: virtualAddressMap, isAlways: true }
      }
      if (each.snapshot.smm) {
        // What variables take is in system-management mode, and that is in no snapshot.
        yield* callsOf(session, [stepNamed('GetTime')])
      } else {
        yield* callsOf(session, STEPS)
        yield* someNames(session, turn)
        yield* callsAfterRestart(session, options, each)
      }
      yield* callsOf(session, [RESETS[turn % RESETS.length]!])
    },
  }
}

function* callsOf(session: Session, steps: readonly Step[]): Generator<Made> {
  for (const each of steps) {
    const made = each.run(session)
    if (made !== undefined) yield made
  }
}

/** Lists all variables. Of the calls that takes the last one is made again, and of the others each under another strategy. */
function* someNames(session: Session, turn: number): Generator<Made> {
  let index = 0
  for (const call of listVariables(session)) {
    if (call.isLast || index % strategies.length === turn) yield call
    index++
  }
}

/** Switches the machine off and on, here and in QEMU, and calls: what was written is still there, and both give the same. */
async function* callsAfterRestart(
  session: Session,
  options: SessionOptions,
  each: Build,
): AsyncGenerator<Made> {
  const flash = flashOf(each.snapshot, session.kernel.machine.memory)
  const restarted = session.restart()
  const rebooted = Session.start({ ...options, snapshot: await bootedFrom(flash, each) })
  for (const { name, run } of STEPS_AFTER_RESTART) {
    const [here, there] = [run(restarted), run(rebooted)]
    if (here === undefined || there === undefined) continue
    const surprise = isDeepStrictEqual(here.value, there.value)
      ? undefined
      : `${inspect(here.value)} after a restart here, ${inspect(there.value)} in QEMU`
    const answer = { name: `${name}, after a restart`, isAlways: false }
    yield { ...here, ...answer, surprise: here.surprise ?? surprise }
    yield { ...there, name: `${name}, after a restart in QEMU` }
  }
}

/** The firmware as it hands over when it finds this in its flash. */
async function bootedFrom(
  flash: Uint8Array,
  { firmware, snapshot }: Build,
): Promise<FirmwareSnapshot> {
  const name = createHash('sha256').update(flash).digest('hex').slice(0, 16)
  const variables = join(folder, `${name}.fd`)
  writeFileSync(variables, flash)
  const { board } = snapshot
  return readObservedSnapshot(await snapshotOf({ board, firmware, variables, memory: MEMORY }))
}

/** Tables that lack what firmware touches, and arguments that state A of the patch does not map. */
function gapCells(each: Build): Cell[] {
  const { RuntimeServicesCode: code, RuntimeServicesData: data, MemoryMappedIO: flash } = MemoryType
  const gaps: readonly (readonly [Gap, readonly string[]])[] = [
    [{ type: data, as: 'absent' }, ['GetVariable', 'SetVariable', 'GetNextVariableName']],
    [{ type: data, as: 'read-only' }, ['SetVariable', 'GetNextHighMonotonicCount']],
    [{ type: flash, as: 'absent' }, ['SetVariable', 'GetNextHighMonotonicCount']],
    [{ type: flash, as: 'read-only' }, ['SetVariable']],
    [{ type: code, as: 'absent' }, ['GetTime']],
    [{ type: code, as: 'no-execute' }, ['GetVariable', 'QueryVariableInfo']],
    [{ type: code, as: 'read-only' }, ['GetVariable', 'SetVariable']],
    [{ type: code, as: 'user' }, ['GetTime']],
  ]
  const stateA = {
    definition: registry.strategy('private-efi-pgd'),
    options: { state: 'A', saveArea: 'perCpu', page0: 'unmapped' },
  }
  const cell = (options: Omit<SessionOptions, 'snapshot'>, service: string): Cell => ({
    name: `${options.strategy.definition.name}, ${service}, ${each.name}`,
    kernel: `${options.strategy.definition.name} ${options.place ?? ''}`,
    build: each,
    isToWork: false,
    isThorough: true,
    calls: async function* () {
      yield* callsOf(Session.start({ ...options, snapshot: each.snapshot }), [stepNamed(service)])
    },
  })
  return [
    ...gaps.flatMap(([gap, names]) =>
      names.map((service) => cell({ strategy: { definition: strategyWith(gap) } }, service)),
    ),
    ...['GetTime', 'GetVariable', 'SetVariable'].map((service) =>
      cell({ strategy: stateA, place: 'vmalloc' }, service),
    ),
  ]
}

async function runCell(cell: Cell): Promise<Report> {
  const { name, build: each, calls, isToWork, isThorough } = cell
  const lines: string[] = []
  const noted: Report['made'][number][] = []
  let differing = 0
  let hasFaulted = false
  for await (const { name: called, call, surprise, isAlways } of calls()) {
    const { ended } = call.exit
    const faulted = ended.kind === 'exception'
    const isMadeAgain = isAlways || isThorough
    const differences = isMadeAgain ? [...(await compareWithTwin(call, each))] : []
    hasFaulted ||= faulted
    // What a call that faulted has not done shows in those behind it.
    if (isToWork && !hasFaulted && surprise !== undefined) differences.push(surprise)
    const service = called.split(',')[0]!
    if (isMadeAgain) noted.push({ service, faultsUnder: faulted ? cell.kernel : undefined })
    if (differences.length > 0) differing++
    if (differences.length > 0 || faulted) {
      const sign = differences.length === 0 ? '✓' : '✗'
      lines.push(`${sign} ${name}: ${called} ends with ${describe(ended)}`)
    }
    lines.push(...differences.map((difference) => `    ${difference}`))
  }
  const sign = differing === 0 ? '✓' : '✗'
  return {
    lines: [`${sign} ${name}: ${noted.length} calls`, ...lines],
    made: noted,
    differing,
  }
}
