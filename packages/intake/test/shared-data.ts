import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const DATA = join(import.meta.dirname, '../../../../shared/data')
const LOGS = join(DATA, 'memory-maps')
const BOOTS = join(DATA, 'observed/boots')

/** What index.json says of a log; it was counted by another program than this one. */
export interface LoggedMachine {
  readonly file: string
  readonly complete: boolean
  readonly maps: readonly {
    readonly format: string
    readonly n: number
    readonly zero_length: number
    readonly runtime: number
    readonly overlaps: readonly unknown[]
    readonly highest_end: string
  }[]
}

/** The recorded logs; none where the shared data is not beside the project. */
export const LOGGED_MACHINES: readonly LoggedMachine[] = existsSync(LOGS)
  ? (JSON.parse(readFileSync(join(LOGS, 'index.json'), 'utf8')) as LoggedMachine[])
  : []

export function readLog(file: string): Buffer {
  return readFileSync(join(LOGS, file))
}

/** The recorded boots; none where the shared data is not beside the project. */
export const BOOTED: readonly string[] = existsSync(BOOTS) ? readdirSync(BOOTS) : []

/** A file of a recorded boot; undefined where that boot has none. */
export function readBootFile(boot: string, file: string): Buffer | undefined {
  const path = join(BOOTS, boot, file)
  return existsSync(path) ? readFileSync(path) : undefined
}

/** The folder of a recorded boot. */
export function bootFolder(boot: string): string {
  return join(BOOTS, boot)
}
