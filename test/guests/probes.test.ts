import { EXTENSION_FORMS } from './extension-probes.ts'
import { execaSync } from 'execa'
import { describe, expect, test } from 'vitest'
import { type ImageMode, probeImage } from './probe-image.ts'
import { expectedOfQemu, runProbesHere, runProbesOnQemu } from './probe-runs.ts'
import { allProbes } from './probes/all.ts'
import { QEMU } from './qemu.ts'
import { PRIVILEGED_FORMS, randomProbes } from './random-probes.ts'
import { differences } from './record.ts'
import { Random } from '../emulators/cases/random.ts'

const hasQemu = !execaSync(QEMU, ['--version'], { reject: false }).failed

describe.skipIf(!hasQemu)('probes (skipped where qemu-system-x86_64 is not installed)', () => {
  test.each<[ImageMode]>([['protected'], ['ia32e']])(
    'end as on QEMU, register by register, in %s mode',
    async (mode) => {
      const probes = allProbes().filter(
        (probe) => (probe.mode === 'protected') === (mode === 'protected'),
      )
      const image = probeImage(mode, probes)
      const { outcome, records: ours } = runProbesHere(image)
      expect(outcome).toEqual({ kind: 'exit', value: 0 })
      const theirs = await runProbesOnQemu(image)
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

  test.each<[ImageMode]>([['protected'], ['ia32e']])(
    'with random operands end as on QEMU in %s mode',
    async (mode) => {
      // The command makes a thousand of each form.
      const probes = [...PRIVILEGED_FORMS, ...EXTENSION_FORMS].flatMap((form, index) =>
        randomProbes(form, 10, new Random(7, index), mode),
      )
      const image = probeImage(mode, probes)
      const { records: ours } = runProbesHere(image)
      const theirs = await runProbesOnQemu(image)
      expect([ours.length, theirs.length]).toEqual([probes.length, probes.length])
      const found = probes.filter(
        (probe, index) =>
          differences(expectedOfQemu(probe, ours[index]!), theirs[index]!).length > 0,
      )
      expect(found.map(({ name }) => name)).toEqual([])
    },
  )
})
