import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CoreError, PAGE_SIZE, PHYSICAL_ADDRESS_LIMIT, PhysicalMemory } from '../src/index.ts'

const WINDOW = 4 * PAGE_SIZE
/** Addresses at which something changes: frame and region ends, the end of the window, far memory. */
const EDGES = [PAGE_SIZE, WINDOW, 2 ** 21, 2 ** 32, 2 ** 40, PHYSICAL_ADDRESS_LIMIT - 64]

const access = fc.record({
  edge: fc.constantFrom(...EDGES),
  offset: fc.integer({ min: -16, max: 16 }),
  width: fc.constantFrom(1, 2, 4, 8),
  value: fc.bigInt(0n, (1n << 64n) - 1n),
})

test('values of every width, aligned or not, are little-endian bytes', () => {
  fc.assert(
    fc.property(fc.array(access, { maxLength: 30 }), (accesses) => {
      const memory = new PhysicalMemory({ flatWindow: WINDOW })
      const bytes = new Map<number, number>()
      for (const { edge, offset, width, value } of accesses) {
        const address = edge + offset
        if (width === 1) memory.write8(address, Number(value & 0xffn))
        else if (width === 2) memory.write16(address, Number(value & 0xffffn))
        else if (width === 4) memory.write32(address, Number(value & 0xffff_ffffn))
        else memory.write64(address, value)
        for (let byte = 0; byte < width; byte++) {
          bytes.set(address + byte, Number((value >> BigInt(byte * 8)) & 0xffn))
        }
      }
      const value = (address: number, width: number): bigint => {
        let result = 0n
        for (let byte = width - 1; byte >= 0; byte--) {
          result = (result << 8n) | BigInt(bytes.get(address + byte) ?? 0)
        }
        return result
      }
      for (const { edge, offset } of accesses) {
        const address = edge + offset
        expect(BigInt(memory.read8(address))).toBe(value(address, 1))
        expect(BigInt(memory.read16(address))).toBe(value(address, 2))
        expect(BigInt(memory.read32(address))).toBe(value(address, 4))
        expect(memory.read64(address)).toBe(value(address, 8))
        const expected = Array.from({ length: 40 }, (_, at) => bytes.get(address + at) ?? 0)
        expect([...memory.read(address, 40)]).toEqual(expected)
      }
    }),
  )
})

test('bytes that are written across pages are read back in any pieces', () => {
  const memory = new PhysicalMemory({ flatWindow: WINDOW })
  const bytes = Uint8Array.from({ length: 3 * PAGE_SIZE }, (_, index) => index % 251)
  memory.write(WINDOW - PAGE_SIZE - 7, bytes)
  expect(memory.read(WINDOW - PAGE_SIZE - 7, bytes.length)).toEqual(bytes)
  expect(memory.read8(WINDOW)).toBe((PAGE_SIZE + 7) % 251)
})

test('memory that was never written reads as zeros and takes no room', () => {
  const memory = new PhysicalMemory()
  expect(memory.read64(0x1234_5678_9000)).toBe(0n)
  expect(memory.isWritten(0x1_2345_6789)).toBe(false)
  memory.write8(0x1234_5678_9000, 0)
  expect(memory.isWritten(0x1_2345_6789)).toBe(true)
})

test('a fill replaces what was written before it and nothing beside its range', () => {
  const memory = new PhysicalMemory({ flatWindow: WINDOW })
  for (let frame = 0; frame < 12; frame++) memory.write32(frame * PAGE_SIZE + 8, frame + 1)
  memory.fill(2 * PAGE_SIZE, 9 * PAGE_SIZE, 0xafaf_afaf)
  const words = Array.from({ length: 12 }, (_, frame) => memory.read32(frame * PAGE_SIZE + 8))
  const filled = 0xafaf_afaf
  expect(words).toEqual([1, 2, ...Array.from({ length: 7 }, () => filled), 10, 11, 12])
  memory.write32(5 * PAGE_SIZE, 1)
  expect([memory.read32(5 * PAGE_SIZE), memory.read32(5 * PAGE_SIZE + 4)]).toEqual([1, filled])
})

test('a fill of terabytes costs no more than a fill of a page', () => {
  const memory = new PhysicalMemory()
  memory.fill(0, 2 ** 51, -1)
  memory.fill(2 ** 45, 2 ** 45 + PAGE_SIZE, 7)
  expect([memory.read32(2 ** 50), memory.read32(2 ** 45), memory.read32(2 ** 51)]).toEqual([
    0xffff_ffff, 7, 0,
  ])
})

test('clearing a frame zeroes it alone', () => {
  const memory = new PhysicalMemory({ flatWindow: WINDOW })
  memory.fill(0, 8 * PAGE_SIZE, -1)
  memory.clearFrame(1)
  memory.clearFrame(6)
  const words = Array.from({ length: 8 }, (_, frame) => memory.read32(frame * PAGE_SIZE + 4092))
  const ones = 0xffff_ffff
  expect(words).toEqual([ones, 0, ones, ones, ones, ones, 0, ones])
})

test.each([-1, PHYSICAL_ADDRESS_LIMIT, Number.NaN])('address %s is refused', (address) => {
  const memory = new PhysicalMemory()
  expect(() => memory.read8(address)).toThrow(CoreError)
  expect(() => {
    memory.write8(address, 0)
  }).toThrow(expect.objectContaining({ code: 'CORE_BAD_PHYSICAL_ADDRESS' }))
})

test('a fill of part of a page is refused', () => {
  expect(() => {
    new PhysicalMemory().fill(0, 100, 0)
  }).toThrow(expect.objectContaining({ code: 'CORE_MISALIGNED' }))
})

test.each([100, -4096, 2 ** 33])('a flat window of %i bytes is refused', (flatWindow) => {
  expect(() => new PhysicalMemory({ flatWindow })).toThrow(
    expect.objectContaining({ code: 'CORE_BAD_RANGE' }),
  )
})
