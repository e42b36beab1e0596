import { availableParallelism } from 'node:os'
import { extname } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import {
  type CaseEnvironment,
  type CaseResult,
  type CaseSpec,
  machineOf,
  runCases as runTogether,
} from '@trapdoor/harness'
import { Tinypool } from 'tinypool'
import { BUILT_IN_PLUGINS } from '../builtin.ts'
import type { CliIo } from '../io.ts'
import type { ConfigOptions } from '../options.ts'
import { Progress } from '../progress.ts'
import type { Batch } from './case-worker.ts'

/** Cases of a batch, which nearly always share their firmware. One has all cases of a machine, or a few more than this. */
const BATCH = 48
/** Cases that are worth the start of a thread. */
const WORTH_A_THREAD = 384
const WORKER: string = new URL(`./case-worker${extname(import.meta.url)}`, import.meta.url).href

/** How cases are run. */
export interface RunCasesOptions {
  readonly io: CliIo
  /** What the environment came from, for other threads to make it again. */
  readonly config: ConfigOptions
  /** Threads; default one for each processor, and fewer where there is little to do. */
  readonly jobs?: number | undefined
  /** Who is told how far it is, and what it is a part of; default a progress of its own, by memory map. */
  readonly partOf?: { readonly progress: Progress; readonly part: string } | undefined
}

/**
 * Runs cases, and says how far it is. Results come in the order of the cases, whatever the number of threads. Undefined where the user interrupted; throws what a case
 * throws.
 */
export async function runCases(
  environment: CaseEnvironment,
  specs: readonly CaseSpec[],
  { io, config, jobs, partOf }: RunCasesOptions,
): Promise<CaseResult[] | undefined> {
  const threads = jobs ?? Math.min(availableParallelism(), Math.ceil(specs.length / WORTH_A_THREAD))
  const batches = batchesOf(environment, specs)
  const pool = threads > 1 || runsForeignCode(environment) ? poolOf(threads) : undefined
  const progress = partOf?.progress ?? new Progress(io, specs.length)
  const results = new Map<CaseSpec, CaseResult>()
  try {
    const elsewhere = pool && batches.map((specsOfBatch) => ask(pool, specsOfBatch, config, io))
    for (const [index, batch] of batches.entries()) {
      const done = (await elsewhere?.[index]) ?? []
      // A pending interrupt is delivered only when this gives way.
      await setImmediate()
      if (io.signal?.aborted === true) {
        progress.finish()
        io.stderr.write(`interrupted after ${results.size} of ${specs.length} cases\n`)
        return undefined
      }
      const own = done.length > 0 ? done : runTogether(environment, batch)
      for (const [at, spec] of batch.entries()) results.set(spec, own[at]!)
      for (const { memoryMapId } of batch) progress.step(partOf?.part ?? memoryMapId)
    }
  } finally {
    await pool?.destroy()
  }
  if (partOf === undefined) progress.finish()
  return specs.map((spec) => results.get(spec)!)
}

/** Batches that do not part what can share its boots. */
function batchesOf({ config }: CaseEnvironment, specs: readonly CaseSpec[]): CaseSpec[][] {
  const batches: CaseSpec[][] = []
  for (const own of Map.groupBy(specs, (spec) => machineOf(config, spec)).values()) {
    const last = batches.at(-1)
    if (last !== undefined && last.length < BATCH) last.push(...own)
    else batches.push([...own])
  }
  return batches
}

/** Whether there are plugins of the user's: a loop in one of their hooks must not keep an interrupt from being heard, so that they run in another thread. */
function runsForeignCode({ config: { registry } }: CaseEnvironment): boolean {
  return registry.plugins.some((plugin) => !BUILT_IN_PLUGINS.includes(plugin))
}

function poolOf(threads: number): Tinypool {
  return new Tinypool({ filename: WORKER, minThreads: threads, maxThreads: threads })
}

/** A batch's results; none where a case throws, where the pool ended before, or where the user interrupted: that ends the thread. */
async function ask(
  pool: Tinypool,
  specs: readonly CaseSpec[],
  options: ConfigOptions,
  { cwd, signal }: CliIo,
): Promise<CaseResult[]> {
  const batch: Batch = { options, cwd, ids: specs.map(({ id }) => id) }
  try {
    return (await pool.run(batch, signal === undefined ? {} : { signal })) as CaseResult[]
  } catch {
    return []
  }
}
