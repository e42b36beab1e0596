import { existsSync } from 'node:fs'
import { join } from 'node:path'

const SNAPSHOTS = join(import.meta.dirname, '../../../../shared/data/observed/snapshots')

/** Whether the recorded snapshots are there: they hold firmware of others and are not part of the project. */
export const RECORDED = existsSync(SNAPSHOTS)

/** The folder of a recorded snapshot. */
export function snapshotFolder(name: string): string {
  return join(SNAPSHOTS, name)
}
