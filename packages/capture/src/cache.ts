import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { SnapshotError, writeSnapshot } from '@trapdoor/snapshot'
import { captureFirmware } from './capture.ts'
import { type CapturePlan, planKey } from './plan.ts'
import { type Patience, qemuVersion } from './qemu/machine.ts'

/** Digits of a plan's key in the name of its folder. */
const KEY_DIGITS = 16

/** Where snapshots are kept: $XDG_CACHE_HOME/trapdoor/snapshots, by default below ~/.cache (XDG Base Directory Specification). */
export function snapshotCache(env: Readonly<Record<string, string | undefined>>): string {
  const configured = env['XDG_CACHE_HOME']
  const root =
    configured === undefined || configured === '' ? join(homedir(), '.cache') : configured
  return join(root, 'trapdoor', 'snapshots')
}

/**
 * The folder in the cache with the snapshot of a plan, which is made where it is not there yet. Who makes the same at the same time makes the same bytes, so the first one stays. Throws a
 * CaptureError.
 */
export async function cachedSnapshot(
  plan: CapturePlan,
  patience: Patience,
  cache: string = snapshotCache(process.env),
): Promise<string> {
  const key = planKey(plan, await qemuVersion())
  const folder = join(cache, `${plan.name}-${key.slice(0, KEY_DIGITS)}`)
  if (existsSync(folder)) return folder
  const contents = await captureFirmware(plan, patience)
  try {
    await writeSnapshot(folder, contents)
  } catch (error) {
    if (!(error instanceof SnapshotError) || error.code !== 'SNAPSHOT_FOLDER_THERE') throw error
  }
  return folder
}
