import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Interpreter } from '@trapdoor/cpu'
import { type FirmwareSnapshot, readObservedSnapshot } from '@trapdoor/snapshot'
import { createFirmware, type Firmware, type Quirk } from '../../src/index.ts'

const SNAPSHOTS = join(import.meta.dirname, '../../../../../shared/data/observed/snapshots')

/** Whether the recorded firmware is there: it is others' and no part of the project. */
export const RECORDED = existsSync(SNAPSHOTS)

const executor = new Interpreter()
const snapshots = new Map<string, FirmwareSnapshot>()

/** A recorded snapshot, read once. */
export function recorded(name = 'pc-2M-512M'): FirmwareSnapshot {
  const snapshot = snapshots.get(name) ?? readObservedSnapshot(join(SNAPSHOTS, name))
  snapshots.set(name, snapshot)
  return snapshot
}

/** A variant of a recorded OVMF. */
export function ovmf(quirks: readonly Quirk[] = [], name = 'pc-2M-512M'): Firmware {
  return createFirmware({ name, snapshot: recorded(name), quirks, executor })
}
