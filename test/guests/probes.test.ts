import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { QEMU_TCG } from '@trapdoor/core'
import { loadGuest, readMultibootImage, runGuest } from '@trapdoor/guest'
import { execaSync } from 'execa'
import { describe, expect, test } from 'vitest'
import { runEmulator } from '../emulators/machines/process.ts'
import { KNOWN_FAULTS } from './known-faults.ts'
import type { Probe } from './probe.ts'
import { type ImageMode, probeImage } from './probe-image.ts'
import { allProbes } from './probes/all.ts'
import { differences, type ProbeRecord, readRecords } from './record.ts'

const MEMORY_MIB = 64
/** isa-debug-exit makes 1 of the guest's 0. */
const EXIT_OF_ZERO = 1
const MOST_INSTRUCTIONS = 1e8
const QEMU = 'qemu-system-x86_64'
const hasQemu = !execaSync(QEMU, ['--version'], { reject: false }).failed

/** What our machine makes of an image. */
function runOurs(image: Uint8Array): ProbeRecord[] {
  let text = ''
  const guest = loadGuest(readMultibootImage(image, 'probes'), {
    file: 'probes',
    features: QEMU_TCG,
    memoryBytes: MEMORY_MIB * 2 ** 20,
    transmit: (byte) => {
      text += String.fromCharCode(byte)
    },
  })
  expect(runGuest(guest, MOST_INSTRUCTIONS)).toEqual({ kind: 'exit', value: 0 })
  return readRecords(text)
}

/** What QEMU without hardware acceleration makes of it. */
async function runQemu(image: Uint8Array): Promise<ProbeRecord[]> {
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
    })
    return readRecords(await readFile(join(directory, 'serial'), 'latin1'))
  } finally {
    await rm(directory, { recursive: true })
  }
}

/** What QEMU is to make of a probe, by what ours makes of it and the faults that QEMU is known to have. */
function expectedOfQemu(probe: Probe, ours: ProbeRecord): ProbeRecord {
  return KNOWN_FAULTS.reduce((record, { expected }) => expected(probe, record) ?? record, ours)
}

describe.skipIf(!hasQemu)('probes (skipped where qemu-system-x86_64 is not installed)', () => {
  test.each<[ImageMode]>([['protected'], ['ia32e']])(
    'end as on QEMU, register by register, in %s mode',
    async (mode) => {
      const probes = allProbes().filter(
        (probe) => (probe.mode === 'protected') === (mode === 'protected'),
      )
      const image = probeImage(mode, probes)
      const ours = runOurs(image)
      const theirs = await runQemu(image)
      expect([ours.length, theirs.length]).toEqual([probes.length, probes.length])
      const found = probes.flatMap((probe, index) =>
        differences(expectedOfQemu(probe, ours[index]!), theirs[index]!).map(
          (difference) => `${probe.name}: ${difference}`,
        ),
      )
      expect(found).toEqual([])
      expect(probes.length).toBeGreaterThan(500)
    },
  )
})
