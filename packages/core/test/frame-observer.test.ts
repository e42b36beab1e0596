import { beforeEach, expect, test } from 'vitest'
import { PAGE_SIZE, PhysicalMemory } from '../src/index.ts'

let memory: PhysicalMemory
let told: string[]

beforeEach(() => {
  memory = new PhysicalMemory()
  told = []
  memory.observers.push({
    frameMoved: (frame) => told.push(`moved ${frame}`),
    framesMoved: () => told.push('all moved'),
    tablesChanged: () => told.push('tables'),
    codeWritten: (frame, start, end) => told.push(`code ${frame} ${start}-${end}`),
  })
})

test('the first write gives a frame words of its own, later ones leave it where it is', () => {
  memory.write8(5 * PAGE_SIZE, 1)
  memory.write8(5 * PAGE_SIZE + 1, 1)
  expect(told).toEqual(['moved 5'])
  const words = memory.wordsForStores(5)
  expect(words).toBe(memory.locate(5))
  expect(told).toEqual(['moved 5'])
})

test('after a fork both sides move what they write to', () => {
  memory.write8(5 * PAGE_SIZE, 1)
  told.length = 0
  const fork = memory.fork()
  fork.write8(5 * PAGE_SIZE, 2)
  expect(told).toEqual(['all moved'])
  expect(memory.wordsForStores(5)).not.toBe(fork.locate(5))
  expect(told).toEqual(['all moved', 'moved 5'])
})

test('clearing, filling and going back to a checkpoint move frames', () => {
  memory.clearFrame(5)
  memory.fill(4 * PAGE_SIZE, 8 * PAGE_SIZE, 1)
  expect(told).toEqual(['moved 5', 'all moved'])
  const rewind = memory.checkpoint()
  told.length = 0
  rewind()
  expect(told).toContain('all moved')
})

test('page tables that are watched have no words for stores, and tell of changes', () => {
  memory.write8(5 * PAGE_SIZE, 1)
  expect(memory.wordsForStores(5)).toBeDefined()
  told.length = 0
  memory.watchTable(5)
  memory.watchTable(5)
  expect(told).toEqual(['moved 5'])
  expect(memory.wordsForStores(5)).toBeUndefined()
  memory.write32(5 * PAGE_SIZE + 8, 1)
  expect(told).toEqual(['moved 5', 'tables'])
})

test('code that is watched tells which bytes were written', () => {
  memory.write8(5 * PAGE_SIZE, 1)
  memory.watchCode(5)
  told.length = 0
  memory.write8(5 * PAGE_SIZE + 9, 1)
  memory.write32(5 * PAGE_SIZE + 16, 1)
  memory.write(6 * PAGE_SIZE - 3, new Uint8Array(6))
  memory.locateForWrite(5)
  expect(told.filter((each) => each.startsWith('code'))).toEqual([
    'code 5 9-10',
    'code 5 16-20',
    'code 5 4093-4096',
    'code 5 0-4096',
  ])
  expect(memory.wordsForStores(5)).toBeDefined()
  expect(memory.holdsCode).toBe(true)
  memory.noteCodeWrite(5, 1, 2)
  expect(told.at(-1)).toBe('code 5 1-2')
  memory.wordsForStores(6)
  expect(memory.holdsCode).toBe(false)
})
