import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  CoreError,
  formatAddress,
  isCanonical,
  phys,
  truncatePhys,
  truncateVirt,
  tryPhys,
  tryVirt,
  virt,
} from '../src/index.ts'

test.each([
  [0n, true],
  [0x7fff_ffff_ffffn, true],
  [0x8000_0000_0000n, false],
  [0xffff_7fff_ffff_ffffn, false],
  [0xffff_8000_0000_0000n, true],
  [0xffff_ffff_ffff_ffffn, true],
  [1n << 64n, false],
  [-1n, false],
])('%i is canonical: %s', (value, canonical) => {
  expect(isCanonical(value)).toBe(canonical)
})

/** What virt() returns, or the code of its error. */
function madeOrCode(value: bigint): bigint | string {
  try {
    return virt(value)
  } catch (error) {
    return error instanceof CoreError ? error.code : String(error)
  }
}

test('virt() and tryVirt() agree on every 64-bit value', () => {
  fc.assert(
    fc.property(fc.bigInt(0n, (1n << 64n) - 1n), (value) => {
      const canonical = value < 1n << 47n || value >= (1n << 64n) - (1n << 47n)
      expect(tryVirt(value)).toBe(canonical ? value : undefined)
      expect(madeOrCode(value)).toBe(canonical ? value : 'CORE_NOT_CANONICAL')
    }),
  )
})

test('a negative number counts down from the top', () => {
  expect(virt(-1)).toBe(0xffff_ffff_ffff_ffffn)
  expect(virt(-0x8000_0000n)).toBe(0xffff_ffff_8000_0000n)
})

test('a number that is not exact is no address', () => {
  expect([tryVirt(0.5), tryVirt(2 ** 60), tryVirt(Number.NaN)]).toEqual([
    undefined,
    undefined,
    undefined,
  ])
})

test('truncateVirt() keeps the low 48 bits and extends the sign', () => {
  expect(truncateVirt(0x1234_8000_0000_1000n)).toBe(0xffff_8000_0000_1000n)
  expect(truncateVirt(0xffff_0000_0000_1000n)).toBe(0x1000n)
})

test('phys() takes whole numbers from 0 up to 2^52', () => {
  expect([phys(0), phys(0xf_ffff_ffff_ffffn)]).toEqual([0, 2 ** 52 - 1])
  for (const wrong of [-1, 2 ** 52, 0.5, Number.NaN, 1n << 52n]) {
    expect(tryPhys(wrong)).toBeUndefined()
    expect(() => phys(wrong)).toThrow(
      expect.objectContaining({ code: 'CORE_BAD_PHYSICAL_ADDRESS' }),
    )
  }
})

test('truncatePhys() keeps the low 52 bits', () => {
  expect(truncatePhys(0xfff0_0000_0000_1234n)).toBe(0x1234)
})

test('addresses print as sixteen digits', () => {
  expect(formatAddress(0x1234)).toBe('0x0000000000001234')
  expect(formatAddress(0xffff_8800_0000_0000n)).toBe('0xffff880000000000')
})

test('an error says what was expected, what was found, and what to do', () => {
  expect(() => virt(0x8000_0000_0000n)).toThrow(
    expect.objectContaining({
      code: 'CORE_NOT_CANONICAL',
      message: 'expected a canonical 48-bit linear address, found 0x800000000000',
      hint: 'truncateVirt() drops the bits above 47',
    }),
  )
})
