import { availableParallelism } from 'node:os'
import { extname } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { type CaseEnvironment, type CaseResult, type CaseSpec, runCase } from '@trapdoor/harness'
import { Tinypool } from 'tinypool'
import type { CliIo } from '../io.ts'
import type { ConfigOptions } from '../options.ts'
import { Progress } from '../progress.ts'
import type { Batch } from './case-worker.ts'

/** Cases of a batch: neighbours, which share their firmware. */
const BATCH = 64
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
}

/**
 * Runs cases, and says how far it is. Results come in the order of the cases, whatever the number of threads. Undefined where the user interrupted; throws what a case
 * throws.
 */
export async function runCases(
  environment: CaseEnvironment,
  specs: readonly CaseSpec[],
  { io, config, jobs }: RunCasesOptions,
): Promise<CaseResult[] | undefined> {
  const threads = jobs ?? Math.min(availableParallelism(), Math.ceil(specs.length / WORTH_A_THREAD))
  const batches = Array.from({ length: Math.ceil(specs.length / BATCH) }, (_, index) =>
    specs.slice(index * BATCH, (index + 1) * BATCH),
  )
  const pool = threads > 1 ? poolOf(threads) : undefined
  const progress = new Progress(io, specs.length)
  const cases: CaseResult[] = []
  try {
    const elsewhere = pool && batches.map((specsOfBatch) => ask(pool, specsOfBatch, config, io.cwd))
    for (const [index, batch] of batches.entries()) {
      const done = (await elsewhere?.[index]) ?? []
      for (const [position, spec] of batch.entries()) {
        // A pending interrupt is delivered only when this gives way.
        if (position % 16 === 0) await setImmediate()
        if (io.signal?.aborted === true) {
          progress.finish()
          io.stderr.write(`interrupted after ${cases.length} of ${specs.length} cases\n`)
          return undefined
        }
        cases.push(done[position] ?? runCase(environment, spec))
        progress.step(spec.memoryMapId)
      }
    }
  } finally {
    await pool?.destroy()
  }
  progress.finish()
  return cases
}

function poolOf(threads: number): Tinypool {
  return new Tinypool({ filename: WORKER, minThreads: threads, maxThreads: threads })
}

/** A batch's results; fewer than there are cases where one throws, none where the pool ended before. */
async function ask(
  pool: Tinypool,
  specs: readonly CaseSpec[],
  options: ConfigOptions,
  cwd: string,
): Promise<CaseResult[]> {
  const batch: Batch = { options, cwd, ids: specs.map(({ id }) => id) }
  try {
    return (await pool.run(batch)) as CaseResult[]
  } catch {
    return []
  }
}
