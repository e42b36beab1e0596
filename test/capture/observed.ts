import { existsSync } from 'node:fs'
import { join } from 'node:path'

/** Snapshots and recordings that were made by hand, under a kernel. */
const OBSERVED = join(import.meta.dirname, '../../../shared/data/observed/snapshots')

/** Whether they are there. */
export const IS_OBSERVED: boolean = existsSync(OBSERVED)

/** Why tests are skipped without them, for their names. */
export const NEEDS_OBSERVED = 'skipped where the shared data is absent'

/** The folder of one of them. */
export function observed(name: string): string {
  return join(OBSERVED, name)
}

/** What QEMU had in the machines of the recordings that ours have not. */
export const SECOND_SERIAL_PORT: readonly string[] = ['-serial', 'null']
