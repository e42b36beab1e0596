import { randomUUID } from 'node:crypto'
import {
  access,
  constants,
  lstat,
  mkdir,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { HarnessError } from '../error.ts'
import type { Results } from './results.ts'

/** The text of a results.json: the same results give the same bytes. */
export function serializeResults(results: Results): string {
  return `${JSON.stringify(results, null, 1)}\n`
}

/**
 * Writes a file so that nobody ever sees half of it: the text goes to a neighbour first, which then takes the name. A symbolic link keeps pointing where it does. What is no
 * regular file (a device, a pipe) is written to as it is. Throws HARNESS_UNWRITABLE_FILE.
 */
export async function writeFileAtomically(file: string, text: string): Promise<void> {
  await writing(file, async (target) => {
    if (!(await isReplaceable(target))) return writeFile(target, text)
    await withDraft(target, async (draft) => {
      await writeFile(draft, text)
      await rename(draft, target)
    })
  })
}

/** Whether {@link writeFileAtomically} could write here, so that nobody works for what cannot be kept; makes the folder. Throws HARNESS_UNWRITABLE_FILE. */
export async function refuseUnwritable(file: string): Promise<void> {
  await writing(file, async (target) => {
    if (!(await isReplaceable(target))) return access(target, constants.W_OK)
    await withDraft(target, (draft) => writeFile(draft, ''))
  })
}

/** Does `work` with the file that is meant, whose folder is there. */
async function writing(file: string, work: (target: string) => Promise<void>): Promise<void> {
  try {
    await makeFolder(dirname(file))
    await work(await linkTarget(file))
  } catch (cause) {
    throw new HarnessError('HARNESS_UNWRITABLE_FILE', {
      expected: 'a file that can be written',
      found: cause instanceof Error ? cause.message : String(cause),
      hint: '-o FILE names another, -o - is stdout, --no-output writes none',
      file,
      cause,
    })
  }
}

/** The file that a chain of symbolic links ends at, there or not. */
async function linkTarget(file: string): Promise<string> {
  const entry = await lstat(file).catch(() => undefined)
  if (entry?.isSymbolicLink() !== true) return file
  try {
    return await realpath(file)
  } catch (error) {
    // A link to nothing is a name to be taken.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      return linkTarget(resolve(dirname(file), await readlink(file)))
    }
    throw error
  }
}

/** Whether a neighbour may take the place of what has this name: nothing, or a regular file. A folder is refused. */
async function isReplaceable(file: string): Promise<boolean> {
  const entry = await stat(file).catch(() => undefined)
  if (entry?.isDirectory() === true) throw new Error('a folder')
  return entry === undefined || entry.isFile()
}

/** Does `work` with a name beside the file, and leaves nothing there. */
async function withDraft(file: string, work: (draft: string) => Promise<void>): Promise<void> {
  const draft = join(dirname(file), `.${basename(file)}.${randomUUID()}.tmp`)
  try {
    await work(draft)
  } finally {
    await rm(draft, { force: true })
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
