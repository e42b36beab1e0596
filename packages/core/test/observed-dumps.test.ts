import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { inspectAddress, type MappedRange, mappedRanges, PAGE_SIZE } from '../src/index.ts'
import {
  mergeObserved,
  type ObservedDump,
  type ObservedRange,
  readObservedDump,
  stagesIn,
} from './observed-dumps.ts'

const HERE = join(import.meta.dirname, 'data/observed')
const SHARED = join(import.meta.dirname, '../../../../shared/data/observed/snapshots')

/** Every stage of every machine under a folder. */
function dumpsUnder(root: string): { machine: string; stage: string; folder: string }[] {
  if (!existsSync(root)) return []
  return readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name: machine }) => {
      const folder = join(root, machine)
      return stagesIn(folder).map((stage) => ({ machine, stage, folder }))
    })
}

/** All that two walkers can agree on. */
interface Reading {
  readonly ranges: readonly ObservedRange[]
  readonly leaves: number
  readonly tables: readonly number[]
}

function readByCore({ context }: ObservedDump): Reading {
  const { ranges, tables } = mappedRanges(context)
  return {
    ranges: mergeObserved(ranges.map(observedForm)),
    leaves: ranges.reduce((sum, { bytes, pageSize }) => sum + bytes / pageSize, 0),
    tables: tables.map((frame) => frame * PAGE_SIZE).toSorted((a, b) => a - b),
  }
}

function readThere({ ranges, leaves, tables }: ObservedDump): Reading {
  return { ranges, leaves, tables: tables.toSorted((a, b) => a - b) }
}

function observedForm(range: MappedRange): ObservedRange {
  const flags = [
    range.writable ? 'w' : '-',
    range.user ? 'u' : '-',
    range.executable ? 'x' : '-',
    (range.patIndex & 2) === 0 ? '' : 'c',
  ]
  return [range.start, range.physical, range.bytes, range.pageSize, flags.join('')]
}

describe('page tables of machines that ran', () => {
  test.each(dumpsUnder(HERE))(
    '$machine, stage $stage: ranges, leaves and tables are those of the walker that agreed with QEMU’s',
    ({ folder, stage }) => {
      const dump = readObservedDump(folder, stage)
      expect(readByCore(dump)).toEqual(readThere(dump))
    },
  )

  test.each(dumpsUnder(HERE))(
    '$machine, stage $stage: both ends of each range translate to where they should',
    ({ folder, stage }) => {
      const { context, ranges } = readObservedDump(folder, stage)
      const found = ranges.map(([start, , bytes]) =>
        [start, start + BigInt(bytes) - 1n].map((address) => {
          const end = inspectAddress(context, address)
          return end.status === 'mapped' && [end.physical, end.pageSize]
        }),
      )
      expect(found).toEqual(
        ranges.map(([, physical, bytes, size]) => [
          [physical, size],
          [physical + bytes - 1, size],
        ]),
      )
    },
  )

  test.each([
    ['pc-2M-512M', 'A', 2557, 6],
    ['pc-2M-512M', 'D', 11_624, 117],
    ['q35-4M-512M', 'D', 11_682, 117],
  ])('%s, stage %s has %i leaves in %i tables', (machine, stage, leaves, tables) => {
    const found = readByCore(readObservedDump(join(HERE, machine), stage))
    expect([found.leaves, found.tables.length]).toEqual([leaves, tables])
  })
})

describe.skipIf(!existsSync(SHARED))(
  'all page tables in ../shared/data/observed (skipped where that folder is not)',
  () => {
    test.each(dumpsUnder(SHARED))('$machine, stage $stage', ({ folder, stage }) => {
      const dump = readObservedDump(folder, stage)
      expect(readByCore(dump)).toEqual(readThere(dump))
    })
  },
)
