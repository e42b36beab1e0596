import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import {
  type CaseEnvironment,
  type CaseSpec,
  createEnvironment,
  loadConfig,
  planCases,
  runCase,
} from '@trapdoor/harness'

const CONFIG = fileURLToPath(new URL('../../configs/demo.config.ts', import.meta.url))
/** Times that the whole matrix is run; the fastest counts, as other load on the machine only ever adds to a time. */
const ROUNDS = 5

/** Measures the demo matrix, three real logs × the firmware variants × the strategies × the scenarios, and prints what a case costs. */
export async function benchMatrix(): Promise<void> {
  const config = await loadConfig({
    directory: dirname(CONFIG),
    file: CONFIG,
    builtIn: BUILT_IN_PLUGINS,
  })
  const specs = planCases(config)
  const startUp = performance.now()
  const environment = createEnvironment(config)
  const first = timed(() => runAll(environment, specs))
  const firstRound = performance.now() - startUp
  const rounds = Array.from({ length: ROUNDS }, () => timed(() => runAll(environment, specs)))
  const fastest = Math.min(...rounds)
  console.log(
    `the demo matrix: ${config.memoryMaps.length} memory maps, ${config.quirkSets.length} firmware variants, ${config.strategies.length} strategies, ${config.scenarios.length} scenarios, ${specs.length} cases`,
  )
  console.log(
    `  first round, with all start-up  ${firstRound.toFixed(0)} ms, ${(first / specs.length).toFixed(2)} ms a case`,
  )
  console.log(
    `  fastest of ${ROUNDS} rounds after it    ${fastest.toFixed(0)} ms, ${(fastest / specs.length).toFixed(2)} ms a case`,
  )
  for (const scenario of config.scenarios) {
    const own = specs.filter((spec) => spec.scenario === scenario)
    const best = Math.min(
      ...Array.from({ length: ROUNDS }, () => timed(() => runAll(environment, own))),
    )
    console.log(`    ${scenario.padEnd(10)} ${(best / own.length).toFixed(2)} ms a case`)
  }
}

function runAll(environment: CaseEnvironment, specs: readonly CaseSpec[]): void {
  for (const spec of specs) runCase(environment, spec)
}

function timed(run: () => void): number {
  const start = performance.now()
  run()
  return performance.now() - start
}
