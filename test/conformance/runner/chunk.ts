import { performance } from 'node:perf_hooks'

import type { Size } from './conformance-set.ts'
import { MANUALS } from './manuals.ts'
import { type ChunkResult, Recorder } from './recorder.ts'
import { SETS } from '../sets.ts'

/** One chunk of one set, by name, so that it can be sent to a thread. */
export interface ChunkTask {
  readonly set: string
  readonly chunk: number
  readonly size: Size
}

/** What came of a chunk. */
export interface FinishedChunk extends ChunkResult {
  readonly task: ChunkTask
  readonly seconds: number
}

/** Runs a chunk here. */
export function runChunk(task: ChunkTask): FinishedChunk {
  const set = SETS.find(({ name }) => name === task.set)
  if (set === undefined) throw new Error(`no set ${task.set}`)
  const recorder = new Recorder()
  const start = performance.now()
  set.run(task.chunk, task.size, recorder, MANUALS)
  return { task, seconds: (performance.now() - start) / 1000, ...recorder.result() }
}
