import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
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

/** Logs of real machines, where they are at hand: a laptop of 2013, one of 2012 with 29 runtime regions, one of 2019. */
const REAL_LOGS = [
  'lenovo-x240-linux_type_lower-1.txt',
  'asus-n56vz-linux_names_halfopen-1.txt',
  'lenovo-x1c7-shell-1.txt',
].map((name) => join(import.meta.dirname, '../../../shared/data/memory-maps', name))

/** Measures the demo matrix, then the same on logs of real machines, and prints what a case costs. */
export async function benchMatrix(): Promise<void> {
  await measureMatrix('the demo matrix')
  if (REAL_LOGS.every((file) => existsSync(file))) {
    await measureMatrix('the same on three real machines’ logs', REAL_LOGS)
  }
}

async function measureMatrix(title: string, memoryMaps?: readonly string[]): Promise<void> {
  const config = await loadConfig({
    directory: dirname(CONFIG),
    file: CONFIG,
    builtIn: BUILT_IN_PLUGINS,
    ...(memoryMaps === undefined ? {} : { overrides: { memoryMaps } }),
  })
  const specs = planCases(config)
  const startUp = performance.now()
  const environment = createEnvironment(config)
  const first = timed(() => runAll(environment, specs))
  const firstRound = performance.now() - startUp
  const rounds = Array.from({ length: ROUNDS }, () => timed(() => runAll(environment, specs)))
  const fastest = Math.min(...rounds)
  console.log(
    `${title}: ${config.memoryMaps.length} memory maps, ${config.quirkSets.length} firmware variants, ${config.strategies.length} strategies, ${config.scenarios.length} scenarios, ${specs.length} cases`,
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
