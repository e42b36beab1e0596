import { parentPort } from 'node:worker_threads'

import { runChunk } from './chunk.ts'
import type { ChunkTask } from './chunk.ts'

/** Runs each chunk that is sent to this thread, and answers with what it found. */
parentPort?.on('message', (task: ChunkTask) => {
  parentPort?.postMessage(runChunk(task), [])
})
