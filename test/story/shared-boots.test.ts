// Cases that begin alike share their boots: every strategy and every scenario, each on another quirk, ends as it ends alone.
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import {
  createEnvironment,
  loadConfig,
  machineOf,
  planCases,
  runCase,
  runCases,
} from '@trapdoor/harness'
import { describe, expect, test } from 'vitest'

const CONFIG = fileURLToPath(new URL('../../configs/all.config.ts', import.meta.url))
/** Quirks from one strategy to the next: prime to their number. */
const STRIDE = 13

const config = await loadConfig({
  directory: dirname(CONFIG),
  file: CONFIG,
  builtIn: BUILT_IN_PLUGINS,
})
const environment = createEnvironment(config)
const maps = config.memoryMaps.map(({ id }) => id)

describe('what cases have in common is run once, and shows in no result', () => {
  test.each(config.strategies.map(({ name }, index) => ({ name, index })))(
    '$name',
    ({ name, index }) => {
      const quirks = config.quirkSets[(index * STRIDE) % config.quirkSets.length]!
      const specs = planCases(config, {
        strategies: [name],
        firmware: [quirks.length === 0 ? 'none' : quirks.join('+')],
        memoryMaps: [maps[index % maps.length]!],
      })
      expect(runCases(environment, specs)).toEqual(specs.map((spec) => runCase(environment, spec)))
    },
  )
})

test('a first kernel that is the same for any strategy boots once for all of them', () => {
  const { registry } = config
  const scenarios = config.scenarios.filter((name) => registry.scenario(name).steps[0]?.anyStrategy)
  expect(scenarios).toEqual(['kexec-chain-physical', 'kexec-from-old', 'kexec-from-new'])
  const specs = planCases(config, { scenarios, firmware: ['Q24'], memoryMaps: [maps[0]!] })
  const machines = new Set(specs.map((spec) => machineOf(config, spec)))
  expect([specs.length, machines.size]).toEqual([scenarios.length * config.strategies.length, 1])
  expect(runCases(environment, specs)).toEqual(specs.map((spec) => runCase(environment, spec)))
})
