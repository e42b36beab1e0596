import { isCanonical } from '@trapdoor/core'
import { expect, test } from 'vitest'

import { type Case, randomCase } from './cases/case.ts'
import { Random } from './cases/random.ts'
import { TableSet } from './cases/table-set.ts'

const PLACES = { gibibytes: [1, 2, 70], physicalBits: 40 }
const KEYS = { pku: true, pks: true }

function tablesOf(seed: number, levels: 4 | 5 = 4): TableSet {
  return new TableSet(new Random(seed), levels, PLACES)
}

function casesOf(seed: number, count: number, levels: 4 | 5 = 4): Case[] {
  const tables = tablesOf(seed, levels)
  return Array.from({ length: count }, (_, index) =>
    randomCase(new Random(seed, index), tables, KEYS),
  )
}

/** A case without its tables, which are compared on their own. */
function essence({ root, controls, access, address, value }: Case): object {
  return { root: root.address, controls, access, address, value }
}

test('the same words give the same numbers, others give others', () => {
  const draw = (...words: number[]) => {
    const random = new Random(...words)
    return Array.from({ length: 8 }, () => random.word())
  }
  expect(draw(1, 2)).toEqual(draw(1, 2))
  expect(draw(1, 2)).not.toEqual(draw(2, 1))
  expect(draw(1)).not.toEqual(draw(1, 0))
  expect(draw(2 ** 40)).not.toEqual(draw(2 ** 41))
})

test('random numbers stay in their range and reach all of it', () => {
  const random = new Random(7)
  const seen = new Set(Array.from({ length: 1000 }, () => random.below(8)))
  expect([...seen].toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
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

test('neither tables nor data overlap, and all lie in the memory that they may have', () => {
  const { tables, dataFrames } = tablesOf(9, 5)
  const frames = [...tables.map(({ address }) => address), ...dataFrames]
  expect(new Set(frames).size).toBe(frames.length)
  expect(
    frames.filter((address) => !PLACES.gibibytes.includes(Math.floor(address / 2 ** 30))),
  ).toEqual([])
  expect(frames.filter((address) => address % 4096 !== 0)).toEqual([])
})

test.each([4, 5] as const)(
  'with %i levels, cases reach every kind of access, of page and of address',
  (levels) => {
    const cases = casesOf(11, 4000, levels)
    const lengths = new Set(cases.map(({ path }) => path.length))
    expect([...lengths].toSorted()).toEqual(levels === 4 ? [1, 2, 3, 4] : [1, 2, 3, 4, 5])
    const kinds = new Set(
      cases.map(({ access: { verb, user, stack } }) => `${verb} ${user} ${stack}`),
    )
    expect(kinds.size).toBe(10)
    const bits = levels === 4 ? 48 : 57
    const isWrong = cases.map(({ address }) => !isCanonical(address, bits))
    const wrong = isWrong.filter(Boolean).length
    expect(wrong).toBeGreaterThan(40)
    expect(wrong).toBeLessThan(400)
  },
)

test('code is run only where there is data', () => {
  const cases = casesOf(13, 4000).filter(({ access }) => access.verb === 'execute')
  const tables = tablesOf(13)
  expect(cases.length).toBeGreaterThan(100)
  expect(cases.filter(({ path, address }) => !tables.leadsToData(path, address))).toEqual([])
})
