import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  decodeMemoryMap,
  descriptorEnd,
  EDK2_DESCRIPTOR_STRIDE,
  encodeMemoryMap,
  isRuntime,
  MEMORY_DESCRIPTOR_SIZE,
  type MemoryDescriptor,
} from '../src/index.ts'
import { thrownBy } from './thrown.ts'

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const descriptor: fc.Arbitrary<MemoryDescriptor> = fc.record({
  type: fc.nat({ max: 0xffff_ffff }),
  physicalStart: fc.maxSafeNat(),
  virtualStart: u64,
  numberOfPages: fc.maxSafeNat(),
  attribute: u64,
})

const runtimeCode: MemoryDescriptor = {
  type: 5,
  physicalStart: 0x7ea9_9000,
  virtualStart: 0xffff_ffff_ff00_0000n,
  numberOfPages: 3,
  attribute: 0x8000_0000_0000_000fn,
}

/** The exclusive end of so many pages. */
function endOf(physicalStart: number, numberOfPages: number): number {
  return descriptorEnd({ ...runtimeCode, physicalStart, numberOfPages })
}

describe('a memory map as bytes', () => {
  test('any map is read as it was written, whatever the stride', () => {
    fc.assert(
      fc.property(
        fc.array(descriptor),
        fc.integer({ min: MEMORY_DESCRIPTOR_SIZE, max: 200 }),
        (map, stride) => {
          const bytes = encodeMemoryMap(map, stride)
          expect(bytes.length).toBe(map.length * stride)
          expect(decodeMemoryMap(bytes, stride)).toEqual(map)
        },
      ),
    )
  })

  test('a length that 64 bits do not hold wraps around', () => {
    expect(endOf(0x1000, 2)).toBe(0x3000)
    expect(endOf(0, 2 ** 52)).toBe(0)
    expect(endOf(0x1000, 2 ** 52)).toBe(0x1000)
  })

  test('the fields stand where the specification puts them, four bytes of padding after the type', () => {
    const bytes = encodeMemoryMap([runtimeCode], EDK2_DESCRIPTOR_STRIDE)
    expect(Buffer.from(bytes).toString('hex')).toBe(
      [
        '0500000000000000',
        '0090a97e00000000',
        '000000ffffffffff',
        '0300000000000000',
        '0f00000000000080',
        '0000000000000000',
      ].join(''),
    )
  })

  test('a view into a larger buffer is read from its own beginning', () => {
    const bytes = encodeMemoryMap([runtimeCode, runtimeCode], 40)
    expect(decodeMemoryMap(bytes.subarray(40), 40)).toEqual([runtimeCode])
  })

  test.each([39, 0, -48, 40.5, Number.NaN])('a stride of %d is refused', (stride) => {
    expect(thrownBy(() => encodeMemoryMap([], stride)).code).toBe('UEFI_BAD_STRIDE')
    expect(thrownBy(() => decodeMemoryMap(new Uint8Array(), stride)).code).toBe('UEFI_BAD_STRIDE')
  })

  test('a length that is no whole number of descriptors is refused', () => {
    expect(thrownBy(() => decodeMemoryMap(new Uint8Array(100), 48))).toEqual({
      code: 'UEFI_BAD_LENGTH',
      message: 'expected a multiple of 48 bytes, found 100 bytes',
    })
  })

  test('an address that a number cannot hold is refused rather than rounded', () => {
    const bytes = encodeMemoryMap([runtimeCode], 40)
    new DataView(bytes.buffer).setBigUint64(8, 2n ** 53n, true)
    expect(thrownBy(() => decodeMemoryMap(bytes, 40))).toEqual({
      code: 'UEFI_BAD_DESCRIPTOR',
      message:
        'expected an address and a number of pages below 2^53, found 0x20000000000000 in the descriptor at byte 0',
    })
  })
})

test('the end of a descriptor is exclusive', () => {
  expect(descriptorEnd(runtimeCode)).toBe(0x7ea9_c000)
})

test('bit 63 alone makes a region one of the runtime', () => {
  expect(isRuntime(runtimeCode)).toBe(true)
  expect(isRuntime({ ...runtimeCode, attribute: 0x7fff_ffff_ffff_ffffn })).toBe(false)
})
