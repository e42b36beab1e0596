import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { HarnessError } from '../error.ts'

/** The bytes of a file that a memory map is read from. Throws HARNESS_UNREADABLE_FILE. */
export function readMapFile(file: string): Uint8Array {
  try {
    return readFileSync(file)
  } catch (cause) {
    const isFolder = statSync(file, { throwIfNoEntry: false })?.isDirectory() === true
    const isSnapshot = existsSync(join(file, 'snapshot.json'))
    throw new HarnessError('HARNESS_UNREADABLE_FILE', {
      expected: 'a file with a memory map',
      found: isFolder ? 'a folder' : cause instanceof Error ? cause.message : String(cause),
      ...(isSnapshot ? { hint: 'it is a snapshot: `trapdoor run --snapshot` takes it' } : {}),
      file,
      cause,
    })
  }
}
