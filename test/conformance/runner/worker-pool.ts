import { Worker } from 'node:worker_threads'

import type { ChunkTask, FinishedChunk } from './chunk.ts'

/** Runs chunks on `threads` threads, in order, and reports each as it ends. Rejects if a chunk throws. */
export function runOnThreads(
  tasks: readonly ChunkTask[],
  threads: number,
  report: (finished: FinishedChunk) => void,
): Promise<void> {
  const waiting = tasks.values()
  return new Promise((resolve, reject) => {
    const workers = new Set<Worker>()
    const stop = (error?: unknown): void => {
      for (const worker of workers) void worker.terminate()
      if (error === undefined) resolve()
      else reject(error)
    }
    const give = (worker: Worker): void => {
      const { value, done } = waiting.next()
      if (done !== true) return worker.postMessage(value, [])
      workers.delete(worker)
      void worker.terminate()
      if (workers.size === 0) stop()
    }
    for (let thread = 0; thread < Math.max(1, Math.min(threads, tasks.length)); thread++) {
      const worker = new Worker(new URL('chunk-worker.ts', import.meta.url))
      workers.add(worker)
      worker.on('error', stop)
      worker.on('message', (finished: FinishedChunk) => {
        report(finished)
        give(worker)
      })
      give(worker)
    }
  })
}
