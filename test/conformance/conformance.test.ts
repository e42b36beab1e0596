import { expect, test } from 'vitest'

import {
  accessCombinations,
  type AccessProduct,
  publishedCombinations,
} from './access-product/access-set.ts'
import { isLegal, productFlags } from './access-product/flags.ts'
import { PLAIN_STATE } from './oracle/register-state.ts'
import { NO_FAULT, Path, TranslationOracle } from './oracle/translation.ts'
import { DEFECTS } from './runner/defects.ts'
import { MANUALS } from './runner/manuals.ts'
import { Recorder } from './runner/recorder.ts'
import { noticedAfter } from './runner/self-check.ts'
import { SETS, setsNamed } from './sets.ts'
import { Trial } from './trial/trial.ts'

/** Counts the legal subsets of the flags one by one, as access.c goes through them. */
function countLegal(mask: number): number {
  let count = 0
  let subset = 0
  do {
    if (isLegal(subset)) count++
    subset = (subset - mask) & mask
  } while (subset !== 0)
  return count
}

test('the combinations that are legal one by one are as many as kvm-unit-tests reports', () => {
  expect(countLegal(productFlags(52, false))).toBe(933_888)
  expect(countLegal(productFlags(51, false))).toBe(1_916_928)
  expect(countLegal(productFlags(37, false))).toBe(1_916_928)
  expect(countLegal(productFlags(36, false))).toBe(2_899_968)
  expect(countLegal(productFlags(52, true))).toBe(9_338_880)
})

test.each([
  [52, 9_338_880],
  [46, 19_169_280],
  [36, 28_999_680],
])('with MAXPHYADDR %i and protection keys %i combinations are enumerated', (bits, published) => {
  const product: AccessProduct = {
    physicalAddressBits: bits,
    protectionKeys: true,
    structure: '4-level',
    accessedFlags: 'lazy',
    smep: false,
  }
  expect(accessCombinations(product)).toBe(published)
  expect(publishedCombinations(product)).toBe(published)
})

test('every set has a name of its own, and combinations in the full size', () => {
  expect(new Set(SETS.map(({ name }) => name)).size).toBe(SETS.length)
  expect(SETS.filter((set) => set.chunks('full') === 0)).toEqual([])
  expect(setsNamed('access/5-level/52').map(({ name }) => name)).toEqual([
    'access/5-level/52/lazy',
    'access/5-level/52/eager',
    'access/5-level/52/keys/lazy',
    'access/5-level/52/keys/eager',
  ])
})

/** An oracle that expects one bit of the error code otherwise. */
class FlippedOracle extends TranslationOracle {
  override predict(path: Path, linearLow: number, access: number): number {
    const code = super.predict(path, linearLow, access)
    return code === NO_FAULT ? code : code ^ 2
  }
}

test('a difference is counted and put into words', () => {
  const recorder = new Recorder()
  const manuals = {
    ...MANUALS,
    translation: (state: TranslationOracle['state']) => new FlippedOracle(state),
  }
  const trial = new Trial(PLAIN_STATE, manuals, recorder)
  trial.select(0, 0x40_0000)
  const path = new Path()
  for (let depth = 0; depth < 3; depth++)
    path.set(depth, trial.structures.tableLow(depth) | 7, trial.structures.tableHigh(depth))
  path.set(3, 0x20_0000 | 3, 0)
  trial.check(path, 0)
  expect(recorder.result()).toEqual({ combinations: 1, differences: 0, examples: [] })
  trial.check(path, 4)
  expect(recorder.result()).toEqual({
    combinations: 2,
    differences: 1,
    examples: [
      [
        '4-level MAXPHYADDR=46 lazy WP NXE pse36 pages1G',
        'at 0x400000: PML4E 00000000:00222007 [P RW US], PDPTE 00000000:00444007 [P RW US], PDE 00000000:00888007 [P RW US], PTE 00000000:00200003 [P RW], user read',
        'expected #PF error code 0x7 [P WR US]; PML4E 00000000:00222007 [P RW US], PDPTE 00000000:00444007 [P RW US], PDE 00000000:00888007 [P RW US], PTE 00000000:00200003 [P RW]',
        'found    #PF error code 0x5 [P US]; PML4E 00000000:00222007 [P RW US], PDPTE 00000000:00444007 [P RW US], PDE 00000000:00888007 [P RW US], PTE 00000000:00200003 [P RW]',
      ].join('\n    '),
    ],
  })
})

test.each(DEFECTS)('the set $set notices a defect: $name', (defect) => {
  expect(noticedAfter(defect)).toBeGreaterThan(0)
})
