#!/usr/bin/env node
import module from 'node:module'
import { oldNodeMessage } from './node-version.ts'

const tooOld = oldNodeMessage(process.versions.node)
if (tooOld !== undefined) {
  process.stderr.write(tooOld)
  process.exit(2)
}
// Half of the time to the first case would be spent on compiling what was compiled the last time. Threads look at the variable.
const cache = 'enableCompileCache' in module ? module.enableCompileCache().directory : undefined
if (cache !== undefined) process.env['NODE_COMPILE_CACHE'] = cache
// What follows may not even load on a Node.js that is too old.
const { runCli } = await import('./run-cli.ts')

let interrupt: AbortController | undefined
/** Whoever does not look has nothing to put away: the signal then ends the process at once, even in an endless loop. */
function interruption(): AbortSignal {
  if (interrupt === undefined) {
    const asked = (interrupt = new AbortController())
    process.once('SIGINT', () => asked.abort())
  }
  return interrupt.signal
}

// `trapdoor run | head` closes the pipe early, which is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

process.exitCode = await runCli(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  cwd: process.cwd(),
  env: process.env,
  isTTY: process.stdout.isTTY && process.stderr.isTTY,
  columns: process.stdout.columns,
  get signal() {
    return interruption()
  },
})
