import {
  type CaseEnvironment,
  type CaseResult,
  createEnvironment,
  findCase,
  type ResolvedConfig,
  runCases,
} from '@trapdoor/harness'
import { type ConfigOptions, configOf } from '../options.ts'

/** What a thread is asked for. */
export interface Batch {
  readonly options: ConfigOptions
  /** Working directory. */
  readonly cwd: string
  /** Ids of cases. */
  readonly ids: readonly string[]
}

let ready: Promise<{ config: ResolvedConfig; environment: CaseEnvironment }> | undefined

/** Loads the configuration once: a thread works for one run. */
async function prepare({ options, cwd }: Batch): Promise<Awaited<NonNullable<typeof ready>>> {
  const config = await configOf(options, { cwd })
  return { config, environment: createEnvironment(config) }
}

/** Runs cases in a thread; no results where one throws. */
export default async function runBatch(batch: Batch): Promise<CaseResult[]> {
  ready ??= prepare(batch)
  const { config, environment } = await ready
  const specs = batch.ids.map((id) => findCase(config, id))
  try {
    return runCases(environment, specs)
  } catch {
    // An error loses its class between threads: whoever waits runs these cases again.
    return []
  }
}
