import { encodeMemoryMap, type MemoryDescriptor } from '@trapdoor/uefi'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type MemoryMapText, readMemoryMaps, toMemoryDescriptors } from '../src/index.ts'
import { codesOf } from './read-text.ts'

const page = fc.nat({ max: 2 ** 30 })
const descriptor: fc.Arbitrary<MemoryDescriptor> = fc.record({
  type: fc.nat({ max: 0xffff_ffff }),
  physicalStart: page.map((number) => number * 4096),
  virtualStart: fc.constant(0n),
  numberOfPages: page,
  attribute: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
})

/** struct efi_map_header, padded to 32 bytes, and the map. */
function sysctl(map: readonly MemoryDescriptor[], stride: number): Uint8Array {
  const header = Buffer.alloc(32)
  header.writeBigUInt64LE(BigInt(map.length * stride), 0)
  header.writeBigUInt64LE(BigInt(stride), 8)
  header.writeUInt32LE(1, 16)
  return Buffer.concat([header, encodeMemoryMap(map, stride)])
}

function read(bytes: Uint8Array): MemoryMapText {
  const [map] = readMemoryMaps({ file: 'efi_map', bytes }).maps
  return map!
}

test('any map is read as the kernel has it', () => {
  fc.assert(
    fc.property(
      fc.array(descriptor, { minLength: 1, maxLength: 20 }),
      fc.constantFrom(40, 48, 64),
      (map, stride) => {
        const found = read(sysctl(map, stride))
        expect(found).toMatchObject({ format: 'freebsd_binary', complete: true })
        expect(toMemoryDescriptors(found, { overlaps: 'keep' })).toEqual(map)
      },
    ),
  )
})

const map = Array.from({ length: 5 }, (_, index) => ({
  type: 7,
  physicalStart: index * 0x10_0000,
  virtualStart: 0n,
  numberOfPages: 0x100,
  attribute: 0xfn,
}))

test('one that is cut says how much is missing, after any descriptor', () => {
  const bytes = sysctl(map, 48)
  for (let length = 32; length < bytes.length; length++) {
    const whole = Math.floor((length - 32) / 48)
    expect(read(bytes.subarray(0, length))).toMatchObject({
      complete: false,
      missing: `${5 - whole} of 5 descriptors: the file is cut`,
      entries: { length: whole },
      warnings: [{ code: 'INTAKE_CUT', file: 'efi_map' }],
    })
  }
})

test('descriptors that overlap or wrap are named as in any other form', () => {
  const bytes = sysctl([...map, { ...map[0]!, physicalStart: 0x10_1000, numberOfPages: 1 }], 48)
  expect(codesOf(read(bytes))).toEqual(['INTAKE_OVERLAP'])
  new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(32 + 8, 2n ** 64n - 4096n, true)
  expect(codesOf(read(bytes))).toEqual(['INTAKE_WRAPS', 'INTAKE_OVERLAP'])
})

test('bytes after the last descriptor are noticed', () => {
  const bytes = Buffer.concat([sysctl(map, 48), Buffer.alloc(3)])
  expect(codesOf(read(bytes))).toEqual(['INTAKE_CONFLICT'])
})
