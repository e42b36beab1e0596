import { descriptorEnd, isRuntime, type MemoryDescriptor } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  type MapEntry,
  type MemoryMapText,
  readMemoryMaps,
  selectFirmwareMap,
  toMemoryDescriptors,
} from '../src/index.ts'
import { BOOTED, LOGGED_MACHINES, readBootFile, readLog } from './shared-data.ts'
import { thrownBy } from './thrown.ts'

const RUNTIME = 1n << 63n

/** The counts that index.json has of a map. */
function countsOf({ format, entries }: MemoryMapText): unknown {
  const ends = entries.map(({ start, pages }) => start + pages * 4096n)
  return {
    format,
    n: entries.length,
    zero_length: entries.filter(({ pages }) => pages === 0n).length,
    runtime: entries.filter(({ attribute }) => ((attribute ?? 0n) & RUNTIME) !== 0n).length,
    highest_end: `0x${ends.reduce((a, b) => (a > b ? a : b)).toString(16)}`,
  }
}

/** Whether an entry has all pages of a region. */
function covers({ start, pages }: MapEntry, region: MemoryDescriptor): boolean {
  const end = start + pages * 4096n
  return start <= BigInt(region.physicalStart) && BigInt(descriptorEnd(region)) <= end
}

/** Warnings that say that a line was not understood or contradicts itself. */
const MISREAD: ReadonlySet<string> = new Set([
  'INTAKE_TORN_LINE',
  'INTAKE_RANGE',
  'INTAKE_OVERSIZED',
  'INTAKE_CONFLICT',
  'INTAKE_CHECKSUM',
  'INTAKE_WRAPS',
  'INTAKE_OVERLAP',
  'INTAKE_MISALIGNED',
])

const skipped = LOGGED_MACHINES.length === 0
describe.skipIf(skipped)('recorded logs (skipped where the shared data is absent)', () => {
  test('there are 42 of them', () => {
    expect(LOGGED_MACHINES).toHaveLength(42)
  })

  describe.each(LOGGED_MACHINES)('$file', ({ file, complete, maps: expected }) => {
    const read = readMemoryMaps({ file, bytes: readLog(file) })

    test('has the maps, descriptors and runtime regions that were counted', () => {
      expect(read.maps.map((map) => countsOf(map))).toEqual(
        expected.map(({ format, n, zero_length, runtime, highest_end }) => ({
          format,
          n,
          zero_length,
          runtime,
          highest_end,
        })),
      )
    })

    test('is understood to its last line', () => {
      const warnings = [...read.warnings, ...read.maps.flatMap((map) => map.warnings)]
      expect(warnings.filter(({ code }) => MISREAD.has(code))).toEqual([])
    })

    test(complete ? 'can be run' : 'cannot be run, and says what is missing', () => {
      const runnable = (): unknown[] => toMemoryDescriptors(selectFirmwareMap(read.maps))
      expect(read.maps.filter((map) => map.complete)).toHaveLength(complete ? 1 : 0)
      expect(read.maps.filter((map) => map.complete === (map.missing !== undefined))).toEqual([])
      const outcome = complete ? runnable().length : thrownBy(runnable).code
      expect(outcome).toBe(complete ? expected[0]!.n : 'INTAKE_INCOMPLETE')
    })
  })
})

describe.skipIf(BOOTED.length === 0)(
  'recorded boots (skipped where the shared data is absent)',
  () => {
    const withMap = BOOTED.filter((boot) => readBootFile(boot, 'firmware-map.txt') !== undefined)

    test.each(withMap)(
      '%s: the firmware’s map can be run, and its runtime regions are those of runtime-map',
      (boot) => {
        const file = 'firmware-map.txt'
        const { maps } = readMemoryMaps({ file, bytes: readBootFile(boot, file)! })
        const descriptors = toMemoryDescriptors(selectFirmwareMap(maps))
        const runtime = descriptors.filter(isRuntime)
        const list = readBootFile(boot, 'boot1.runtime-map.txt')
        const [copy] =
          list === undefined ? [] : readMemoryMaps({ file: 'runtime-map', bytes: list }).maps
        // The kernel merges neighbours, and with efi=debug it keeps boot-services regions, too.
        const lacking = runtime.filter(
          (region) => !copy?.entries.some((entry) => covers(entry, region)),
        )
        expect(copy?.kind).toBe('runtime-copy')
        expect(lacking).toEqual([])
      },
    )

    test('a kernel log that holds no map says so', () => {
      const bytes = readBootFile('q35-4M-1G-noefi', 'boot1.dmesg.gz')!
      expect(thrownBy(() => readMemoryMaps({ file: 'boot1.dmesg.gz', bytes }))).toMatchObject({
        code: 'INTAKE_NO_MAP',
        file: 'boot1.dmesg.gz',
        hint: expect.stringContaining('efi=debug') as string,
      })
    })

    test('what a first kernel passes to the second through kexec is not the firmware’s map', () => {
      const bytes = readBootFile('kexec-load', 'boot2.dmesg.gz')!
      const { maps } = readMemoryMaps({ file: 'boot2.dmesg.gz', bytes })
      expect(thrownBy(() => selectFirmwareMap(maps))).toMatchObject({
        code: 'INTAKE_INCOMPLETE',
        found: expect.stringContaining('conventional memory') as string,
      })
    })
  },
)
