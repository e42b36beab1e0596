import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import {
  type PageTouches,
  parseCounts,
  parsePageTouches,
  type RecordedCall,
} from '@trapdoor/snapshot'
import type { ServiceCaller } from '../application/hand-over.ts'
import { CaptureError } from '../error.ts'

const SOURCE = join(import.meta.dirname, '../../plugin/call-trace.c')
const LIBRARY = 'call-trace.so'
const OUTPUT = 'calls.txt'
const COMPILER = 'cc'

/** What one call did, as the plugin counted it. */
export type CountedCall = Pick<RecordedCall, 'counts' | 'pages'>

/** The arguments that make QEMU load the plugin. A library without a slash in its name would be looked for elsewhere. */
export function pluginArguments({ begin, end }: ServiceCaller): string[] {
  const options = [`begin=${begin.toString(16)}`, `end=${end.toString(16)}`, `out=${OUTPUT}`]
  return ['-plugin', [`file=./${LIBRARY}`, ...options].join(',')]
}

/** Compiles the plugin into a machine's folder. Throws CAPTURE_COMPILER_MISSING, CAPTURE_COMPILER_FAILED. */
export async function compilePlugin(directory: string): Promise<void> {
  const result = await execa(
    COMPILER,
    ['-O2', '-shared', '-fPIC', '-o', join(directory, LIBRARY), SOURCE],
    { reject: false },
  )
  if (result.code === 'ENOENT') {
    throw new CaptureError('CAPTURE_COMPILER_MISSING', {
      expected: `the command ${COMPILER}, for the plugin that counts instructions`,
      found: 'none',
      hint: 'apt-get install --no-install-recommends gcc libc6-dev',
    })
  }
  if (result.failed) {
    throw new CaptureError('CAPTURE_COMPILER_FAILED', {
      expected: `${COMPILER} to compile the plugin that counts instructions`,
      found: `exit code ${result.exitCode ?? 'none'}`,
      hint: result.stderr,
      file: SOURCE,
    })
  }
}

/** Reads what the plugin has written since the last time, once a call has come back. */
export class PluginOutput {
  readonly #file: string
  #read = 0

  constructor(directory: string) {
    this.#file = join(directory, OUTPUT)
  }

  /** The one call since the last time. Throws CAPTURE_PROTOCOL where there is another number of them. */
  async next(): Promise<CountedCall> {
    const text = await readFile(this.#file, 'latin1')
    const lines = text.slice(this.#read).split('\n')
    this.#read = text.length
    const calls = lines.filter((line) => line.startsWith('CALL '))
    if (calls.length !== 1) {
      throw new CaptureError('CAPTURE_PROTOCOL', {
        expected: 'the plugin to have counted one call',
        found: `${calls.length}`,
      })
    }
    const pages = lines
      .filter((line) => line.startsWith('PAGE '))
      .map((line) => parsePageTouches(line.replace(/^PAGE \d+ /, '')))
    return { counts: parseCounts(calls[0]!), pages: pages.toSorted(inOrder) }
  }
}

/** By linear address, code last. */
function inOrder(left: PageTouches, right: PageTouches): number {
  if (left.page !== right.page) return left.page < right.page ? -1 : 1
  return (left.physical ?? Infinity) - (right.physical ?? Infinity)
}
