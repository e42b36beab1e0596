import { expect, test } from 'vitest'
import { mergeE820 } from '../src/index.ts'

test('entries of one type that touch become one, in ascending order', () => {
  expect(
    mergeE820([
      { start: 0x3000, end: 0x4000, type: 1 },
      { start: 0, end: 0x1000, type: 1 },
      { start: 0x1000, end: 0x3000, type: 1 },
      { start: 0x4000, end: 0x5000, type: 2 },
      { start: 0x6000, end: 0x7000, type: 2 },
    ]),
  ).toEqual([
    { start: 0, end: 0x4000, type: 1 },
    { start: 0x4000, end: 0x5000, type: 2 },
    { start: 0x6000, end: 0x7000, type: 2 },
  ])
})
