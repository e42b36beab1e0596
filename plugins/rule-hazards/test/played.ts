import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Plugin,
  type Scenario,
  type ScenarioContext,
  traceCase,
} from '@trapdoor/harness'
import type { StrategyDefinition } from '@trapdoor/kernel'
import plugin from '../src/index.ts'
import { directMap, oneToOne } from './one-to-one.ts'

type Quirk = NonNullable<Plugin['quirks']>[number]
type Finding = CaseTrace['result']['findings'][number]

/** What happens on the machine of a test. */
export interface Play {
  /** With options, such as "one-to-one:leaves=global". Default: everything right. */
  readonly strategy?: string
  /** What the firmware does that it should not. */
  readonly habit?: Quirk['hooks']
  /** Default: a boot and a GetTime. */
  readonly run?: (context: ScenarioContext) => void
  /** Name of a file beside this one, without extension. */
  readonly map?: 'small' | 'uncached-data'
  readonly cpus?: number
  /** Model of the CPU; default one of 2010. */
  readonly cpu?: 'nehalem' | 'arrow-lake'
  readonly strategies?: readonly StrategyDefinition[]
}

/** A boot and one call. */
export function bootAndCall(context: ScenarioContext): void {
  context.boot()
  context.call(context.services().getTime())
}

export async function play({
  strategy = 'one-to-one',
  habit = {},
  run = bootAndCall,
  map = 'small',
  cpus = 1,
  cpu = 'nehalem',
  strategies = [],
}: Play): Promise<CaseTrace> {
  const scenario: Scenario = { name: 'test', title: 'a test', cpus, steps: [{ name: 'test', run }] }
  const quirk: Quirk = { id: 'T1', name: 'habit', title: 'a habit', sources: ['a'], hooks: habit }
  const loaded = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [
      plugin,
      {
        name: 'test',
        apiVersion: 1,
        scenarios: [scenario],
        quirks: [quirk],
        strategies: [oneToOne, directMap, ...strategies],
      },
    ],
    overrides: { memoryMaps: [`${map}.txt`] },
  })
  const config = { ...loaded, cpu }
  return traceCase(createEnvironment(config), findCase(config, `${map}/T1/${strategy}/test`))
}

/** The one finding of a rule, or undefined; fails where there is none because no kernel has come up. */
export function findingOf(trace: CaseTrace, rule: string): Finding | undefined {
  const { events, result } = trace
  const findings = result.findings.filter((finding) => finding.rule === rule)
  if (findings.length > 1) throw new Error(`${rule} reported ${findings.length} findings`)
  const isUp = events.some((event) => event.kind === 'phase' && event.name === 'running')
  if (findings.length === 0 && !isUp) {
    throw new Error(`${rule} had nothing to judge: ${result.reason}`)
  }
  return findings[0]
}

/** Ids of the rules that found something that matters. */
export function rulesOf({ result }: CaseTrace): string[] {
  return result.findings.filter(({ severity }) => severity !== 'info').map(({ rule }) => rule)
}
