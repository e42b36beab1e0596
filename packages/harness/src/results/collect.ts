import { readFileSync } from 'node:fs'
import type { ResolvedConfig } from '../config/resolved-config.ts'
import { unique } from '../config/names.ts'
import { type CaseResult, countOutcomes, type MemoryMapSummary, type Results } from './results.ts'

/** Puts the cases of a run together with what they ran on. Maps that no case ran on are left out. */
export function collectResults(
  config: ResolvedConfig,
  memoryMaps: readonly MemoryMapSummary[],
  cases: readonly CaseResult[],
): Results {
  const { registry } = config
  const used = new Set(cases.map(({ memoryMap }) => memoryMap))
  const quirks = distinct(cases.flatMap((each) => each.quirks))
  const strategies = distinct(cases.map(({ strategy }) => strategy.split(':')[0]!))
  const scenarios = distinct(cases.map(({ scenario }) => scenario))
  return {
    schemaVersion: 1,
    tool: { name: 'trapdoor', version: toolVersion() },
    seed: config.seed,
    memoryMaps: memoryMaps.filter(({ id }) => used.has(id)),
    legend: {
      quirks: quirks.map((id) => {
        const { name, title } = registry.quirk(id)
        return { id, name, title }
      }),
      strategies: strategies.map((name) => ({ name, title: registry.strategy(name).title })),
      scenarios: scenarios.map((name) => ({ name, title: registry.scenario(name).title })),
    },
    cases: [...cases],
    totals: countOutcomes(cases),
  }
}

function distinct(names: readonly string[]): string[] {
  return unique(names, (name) => name)
}

/** The version of this Trapdoor. */
export function toolVersion(): string {
  const manifest = new URL('../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version
}
