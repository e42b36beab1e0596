import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { cachedSnapshot, type CaptureOptions, planCapture } from '@trapdoor/capture'

/** Where Debian's packages ovmf and ovmf-ia32 put firmware. */
const OVMF = '/usr/share/OVMF'

/** Seconds of a busy machine. */
const PATIENCE = { timeout: 280 }

/** Why the tests of real firmware are skipped, for their names. */
export const NEEDS =
  'skipped where the packages qemu-system-x86, ovmf and ovmf-ia32 are not installed'

/** Whether the packages are installed. */
export const IS_INSTALLED: boolean = [
  '/usr/bin/qemu-system-x86_64',
  ovmf('OVMF_CODE_4M.fd'),
  ovmf('OVMF32_CODE_4M.secboot.fd'),
].every((path) => existsSync(path))

/** The path of a firmware's image. */
export function ovmf(name: string): string {
  return join(OVMF, name)
}

/** The folder of a snapshot from the cache; made on first use. */
export function snapshotOf(options: CaptureOptions): Promise<string> {
  return cachedSnapshot(planCapture(options), PATIENCE)
}
