import { isCanonical } from '@trapdoor/core'
import { expect, test } from 'vitest'

import { type Case, randomCase } from './cases/case.ts'
import { Random } from './cases/random.ts'
import {
  BITS_32,
  BITS_32_PSE,
  FIVE_LEVEL,
  FOUR_LEVEL,
  PAE,
  type TableLayout,
} from './cases/table-layout.ts'
import { TableSet } from './cases/table-set.ts'

const PLACES = { gibibytes: [1, 2, 70], physicalBits: 40 }
const LAYOUTS = [FOUR_LEVEL, FIVE_LEVEL, PAE, BITS_32, BITS_32_PSE]
const KEYS = { pku: true, pks: true }

function tablesOf(seed: number, layout: TableLayout = FOUR_LEVEL): TableSet {
  return new TableSet(new Random(seed), layout, PLACES)
}

function casesOf(seed: number, count: number, layout: TableLayout = FOUR_LEVEL): Case[] {
  const tables = tablesOf(seed, layout)
  return Array.from({ length: count }, (_, index) =>
    randomCase(new Random(seed, index), tables, KEYS),
  )
}

/** A case without its tables, which are compared on their own. */
function essence({ root, controls, access, address, value }: Case): object {
  return { root: root.address, controls, access, address, value }
}

function wordsOf(...words: number[]): number[] {
  const random = new Random(...words)
  return Array.from({ length: 8 }, () => random.word())
}

test('the same words give the same numbers, others give others', () => {
  expect(wordsOf(1, 2)).toEqual(wordsOf(1, 2))
  expect(wordsOf(1, 2)).not.toEqual(wordsOf(2, 1))
  expect(wordsOf(1)).not.toEqual(wordsOf(1, 0))
  expect(wordsOf(2 ** 40)).not.toEqual(wordsOf(2 ** 41))
})

test('random numbers stay in their range and reach all of it', () => {
  const random = new Random(7)
  const seen = new Set(Array.from({ length: 1000 }, () => random.below(8)))
  expect(seen).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7]))
  expect(random.distinct(8, 8)).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
  const words = Array.from({ length: 200 }, () => random.bits(64))
  expect(words.reduce((all, word) => all | word)).toBe(0xffff_ffff_ffff_ffffn)
  expect(words.reduce((all, word) => all & word)).toBe(0n)
})

test('a seed gives the same tables and cases every time', () => {
  const [one, two] = [tablesOf(3), tablesOf(3)]
  expect(one.tables).toEqual(two.tables)
  expect(one.dataFrames).toEqual(two.dataFrames)
  expect(tablesOf(4).tables).not.toEqual(one.tables)
  expect(casesOf(3, 50).map(essence)).toEqual(casesOf(3, 50).map(essence))
})

test('a case does not depend on those before it', () => {
  const alone = randomCase(new Random(5, 37), tablesOf(5), KEYS)
  expect(essence(alone)).toEqual(essence(casesOf(5, 38)[37]!))
})

test.each(LAYOUTS)(
  '$name: neither tables nor data overlap, and all lie in memory that they may have',
  (layout) => {
    const { tables, dataFrames } = tablesOf(9, layout)
    const frames = [...tables.map(({ address }) => address), ...dataFrames]
    expect(new Set(frames).size).toBe(frames.length)
    const elsewhere = frames.filter(
      (address) =>
        address % 4096 !== 0 || !PLACES.gibibytes.includes(Math.floor(address / 2 ** 30)),
    )
    expect(elsewhere).toEqual([])
  },
)

test.each(LAYOUTS)('$name: cases reach every depth and make every kind of access', (layout) => {
  const cases = casesOf(11, 4000, layout)
  const depths = new Set(cases.map(({ path }) => path.length))
  expect(depths).toEqual(new Set(layout.levels.map((_, at) => at + 1)))
  const kinds = new Set(
    cases.map(({ access: { verb, user, stack } }) => `${verb} ${user} ${stack}`),
  )
  expect(kinds.size).toBe(10)
})

test.each([FOUR_LEVEL, FIVE_LEVEL])('$name: some addresses are not canonical', (layout) => {
  const bits = layout.name === '5-level' ? 57 : 48
  const wrong = casesOf(11, 4000, layout).filter(({ address }) => !isCanonical(address, bits))
  expect(wrong.length).toBeGreaterThan(40)
  expect(wrong.length).toBeLessThan(400)
})

test.each([PAE, BITS_32, BITS_32_PSE])(
  '$name: addresses have 32 bits and do not lead to the guest',
  (layout) => {
    const top = layout.levels.at(-1)!
    const reserved = casesOf(12, 4000, layout).filter(
      ({ address }) =>
        address >= 1n << 32n || address >> BigInt(top.shift) === BigInt(layout.guestIndex),
    )
    expect(reserved).toEqual([])
  },
)

test.each(LAYOUTS)('$name: code is run only where there is data', (layout) => {
  const tables = tablesOf(13, layout)
  const cases = casesOf(13, 4000, layout).filter(({ access }) => access.verb === 'execute')
  expect(cases.length).toBeGreaterThan(100)
  expect(cases.filter(({ path, address }) => !tables.leadsToData(path, address))).toEqual([])
})

test.each(LAYOUTS)('$name: no case comes near the guest', (layout) => {
  const tables = tablesOf(15, layout)
  const near = casesOf(15, 4000, layout).filter(({ path }) => tables.leadsToGuest(path))
  expect(near).toEqual([])
})
