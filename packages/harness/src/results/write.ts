import { randomUUID } from 'node:crypto'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { HarnessError } from '../error.ts'
import type { Results } from './results.ts'

/** The text of a results.json: the same results give the same bytes. */
export function serializeResults(results: Results): string {
  return `${JSON.stringify(results, null, 1)}\n`
}

/**
 * Writes a file so that nobody ever sees half of it: the text goes to a neighbour first, which then takes the name.
 * Throws HARNESS_UNREADABLE_FILE.
 */
export async function writeFileAtomically(file: string, text: string): Promise<void> {
  const draft = join(dirname(file), `.${basename(file)}.${randomUUID()}.tmp`)
  try {
    await makeFolder(dirname(file))
    await writeFile(draft, text)
    await rename(draft, file)
  } catch (cause) {
    await rm(draft, { force: true })
    throw new HarnessError('HARNESS_UNREADABLE_FILE', {
      expected: 'a file that can be written',
      found: cause instanceof Error ? cause.message : String(cause),
      file,
      cause,
    })
  }
}

/** Makes a folder and those above it. Node's own recursive mkdir never returns where a file system like /proc denies that a folder can be. */
async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'EEXIST') return
    if (code !== 'ENOENT' || dirname(folder) === folder) throw error
    await makeFolder(dirname(folder))
    await mkdir(folder)
  }
}
