import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import {
  type CaseTrace,
  createEnvironment,
  DEFAULT_SEED,
  findCase,
  type Plugin,
  PluginRegistry,
  type ResolvedConfig,
  type Scenario,
  traceCase,
} from '@trapdoor/harness'

/** The boot that the stories play on: OVMF on a q35 machine with the 4 MiB flash. */
export const MACHINE = 'ovmf-q35-4m'
const MAP_FILE = new URL('../../configs/demo/ovmf-q35-4m.txt', import.meta.url).pathname

/** What a story needs beside its cell and its scenario. */
export interface Setting {
  /** Plugins beside the built-in ones. */
  readonly plugins?: readonly Plugin[]
  readonly commandLine?: string
  readonly cpu?: ResolvedConfig['cpu']
  /**
   * Whether a kernel must have come up, and in a scenario that is not the story's own have called firmware. Default true: a machine on which nothing has happened has nothing to show. Where it is false the
   * test says what happens instead, as a death in the boot.
   */
  readonly comesUp?: boolean
  /** A memory map's text in place of {@link MACHINE}'s. */
  readonly bytes?: Uint8Array
  /** A folder with a captured firmware in place of the modelled one. */
  readonly snapshot?: string
}

function configWith(
  scenarios: readonly Scenario[],
  { plugins = [], commandLine = '', cpu, bytes, snapshot }: Setting,
): ResolvedConfig {
  const registry = new PluginRegistry([
    ...BUILT_IN_PLUGINS,
    ...plugins,
    { name: 'story', apiVersion: 1, scenarios },
  ])
  return {
    file: undefined,
    memoryMaps: [
      snapshot === undefined
        ? { id: MACHINE, file: MAP_FILE, ...(bytes === undefined ? {} : { bytes }) }
        : { id: MACHINE, file: snapshot, kind: 'snapshot' },
    ],
    registry,
    quirkSets: [[]],
    strategies: [],
    scenarios: [],
    commandLine,
    cpu: cpu ?? (snapshot === undefined ? 'nehalem' : undefined),
    seed: DEFAULT_SEED,
    instructionLimit: 1_000_000,
    output: 'results.json',
    commandArguments: [],
  }
}

/** Runs `firmware/strategy/scenario` on {@link MACHINE}, and fails where nothing comes of it, unless the setting says so. A scenario of the story's own is passed along. */
export function play(cell: string, scenario?: Scenario, setting: Setting = {}): CaseTrace {
  const config = configWith(scenario === undefined ? [] : [scenario], setting)
  const trace = traceCase(createEnvironment(config), findCase(config, `${MACHINE}/${cell}`))
  if (setting.comesUp === false) return trace
  const { events, result } = trace
  const running = events.findIndex((event) => event.kind === 'phase' && event.name === 'running')
  const isCalled = events.findLastIndex(({ kind }) => kind === 'call') > running
  if (running === -1 || (scenario === undefined && !isCalled)) {
    throw new Error(`${cell} comes to nothing: ${result.reason}`)
  }
  return trace
}

/** The one finding of a rule; fails where there is none. */
export function findingOf(trace: CaseTrace, rule: string): CaseTrace['result']['findings'][number] {
  const finding = trace.result.findings.find((each) => each.rule === rule)
  if (finding === undefined) {
    throw new Error(
      `no finding of ${rule} among ${trace.result.findings.map((each) => each.rule).join(', ')}`,
    )
  }
  return finding
}

/** How a cell ended, for a table: the outcome, the rule that explains it, and the address that was touched. */
export interface Ending {
  readonly outcome: string
  readonly rule?: string
  readonly address?: string
  /** A part of the reason. */
  readonly says?: string
  /** Rules that have found something, whatever came of it. */
  readonly finds?: readonly string[]
}

/** How `firmware/strategy/scenario` ends on {@link MACHINE}, as far as `wanted` asks. */
export function endingOf(cell: string, wanted: Ending, setting: Setting = {}): Ending {
  // What ends a case in the boot is what is asked for, and no answer is.
  const comesUp = !['fault', 'hang', 'refused'].includes(wanted.outcome)
  const { result } = play(cell, undefined, { comesUp, ...setting })
  const [finding] = result.findings
  return {
    outcome: result.outcome,
    ...(wanted.rule === undefined ? {} : { rule: finding?.rule ?? 'none' }),
    ...(wanted.says === undefined
      ? {}
      : { says: result.reason.includes(wanted.says) ? wanted.says : result.reason }),
    ...(wanted.finds === undefined
      ? {}
      : { finds: wanted.finds.filter((id) => result.findings.some(({ rule }) => rule === id)) }),
    ...(wanted.address === undefined ? {} : { address: finding?.access?.address ?? 'none' }),
  }
}
