import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { QEMU_TCG } from '@trapdoor/core'
import { type GuestOutcome, loadGuest, readMultibootImage, runGuest } from '@trapdoor/guest'

import { runEmulator } from '../emulators/machines/process.ts'
import { KNOWN_FAULTS } from './known-faults.ts'
import type { Probe } from './probe.ts'
import { QEMU } from './qemu.ts'
import { type ProbeRecord, readRecords } from './record.ts'

const MEMORY_MIB = 64
/** What no image takes, unless a probe has led it astray. */
const MOST_INSTRUCTIONS = 1e8
const TIME_LIMIT_MS = 30_000
/** isa-debug-exit makes 1 of the guest's 0. */
const EXIT_OF_ZERO = 1

/** What our machine makes of an image of probes. */
export function runProbesHere(image: Uint8Array): {
  readonly outcome: GuestOutcome
  readonly records: readonly ProbeRecord[]
} {
  const bytes: number[] = []
  const guest = loadGuest(readMultibootImage(image, 'probes'), {
    file: 'probes',
    features: QEMU_TCG,
    memoryBytes: MEMORY_MIB * 2 ** 20,
    transmit: (byte) => {
      bytes.push(byte)
    },
  })
  const outcome = runGuest(guest, MOST_INSTRUCTIONS)
  return { outcome, records: readRecords(Buffer.from(bytes).toString('latin1')) }
}

/** What QEMU without hardware acceleration makes of it. Throws EmulatorError. */
export async function runProbesOnQemu(image: Uint8Array): Promise<readonly ProbeRecord[]> {
  const directory = await mkdtemp(join(tmpdir(), 'trapdoor-probes-'))
  try {
    await writeFile(join(directory, 'image'), image)
    const args = [
      ['-nodefaults', '-no-user-config', '-no-reboot'],
      ['-display', 'none'],
      ['-accel', 'tcg'],
      ['-cpu', 'max'],
      ['-m', `${MEMORY_MIB}`],
      ['-serial', 'file:serial'],
      ['-device', 'isa-debug-exit,iobase=0xf4,iosize=4'],
      ['-kernel', 'image'],
    ].flat()
    await runEmulator(QEMU, args, {
      directory,
      packages: ['qemu-system-x86'],
      exitCodes: [EXIT_OF_ZERO],
      timeLimitMs: TIME_LIMIT_MS,
    })
    return readRecords(await readFile(join(directory, 'serial'), 'latin1'))
  } finally {
    await rm(directory, { recursive: true })
  }
}

/** What QEMU is to make of a probe, by what ours makes of it and the faults that QEMU is known to have; `onFault` is told of each that shows. */
export function expectedOfQemu(
  probe: Probe,
  ours: ProbeRecord,
  onFault?: (id: string) => void,
): ProbeRecord {
  let record = ours
  for (const { id, expected } of KNOWN_FAULTS) {
    const changed = expected(probe, record)
    if (changed === undefined) continue
    record = changed
    onFault?.(id)
  }
  return record
}
