import type { MemoryDescriptor } from '@trapdoor/uefi'
import { MemoryAttribute, MemoryType } from '@trapdoor/uefi'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { EFI_VA_END, EFI_VA_START, mergeRegions, TopDownPlacement } from '../src/index.ts'

const LARGE = 0x20_0000n

function region(physicalStart: number, numberOfPages: number): MemoryDescriptor {
  return {
    type: MemoryType.RuntimeServicesData,
    physicalStart,
    virtualStart: 0n,
    numberOfPages,
    attribute: MemoryAttribute.RUNTIME | MemoryAttribute.WB,
  }
}

function placeAll(regions: readonly MemoryDescriptor[]): (bigint | undefined)[] {
  const placement = new TopDownPlacement()
  return regions.map((each) => placement.place(each))
}

/** Worked out by hand from the algorithm of arch/x86/platform/efi/efi_64.c, for a map of seven regions. */
const VECTORS: readonly (readonly [
  physical: number,
  pages: number,
  forward: bigint,
  reverse: bigint,
])[] = [
  [0x7e85_b000, 0x4, 0xffff_fffe_ffe5_b000n, 0xffff_fffe_fea5_b000n],
  [0x7e8e_d000, 0x84, 0xffff_fffe_ffce_d000n, 0xffff_fffe_feae_d000n],
  [0x7eb6_d000, 0x100, 0xffff_fffe_ffb6_d000n, 0xffff_fffe_fed6_d000n],
  [0x7f00_0000, 0x200, 0xffff_fffe_ff80_0000n, 0xffff_fffe_ff00_0000n],
  [0x7f9e_f000, 0x100, 0xffff_fffe_ff5e_f000n, 0xffff_fffe_ff3e_f000n],
  [0xff80_0000, 0x800, 0xffff_fffe_fec0_0000n, 0xffff_fffe_ff60_0000n],
  [0xfed1_c000, 0x4, 0xffff_fffe_feb1_c000n, 0xffff_fffe_fff1_c000n],
]

describe('addresses from −4 GiB downwards', () => {
  const regions = VECTORS.map(([physical, pages]) => region(physical, pages))

  test('are those of Linux 3.14 in the order of the map', () => {
    expect(placeAll(regions)).toEqual(VECTORS.map(([, , forward]) => forward))
  })

  test('are those of Linux 4.3 in reverse order', () => {
    expect(placeAll(regions.toReversed()).toReversed()).toEqual(
      VECTORS.map(([, , , reverse]) => reverse),
    )
  })

  test('end with 64 GiB, for that region and all after it', () => {
    const sixteenGigabytes = region(0x1_0000_0000, 0x40_0000)
    const placed = placeAll([...Array.from({ length: 5 }, () => sixteenGigabytes), region(0, 1)])
    expect(placed.slice(0, 4).every((address) => address !== undefined)).toBe(true)
    expect(placed[3]).toBe(EFI_VA_END)
    expect(placed.slice(4)).toEqual([undefined, undefined])
  })

  const ascending = fc
    .array(
      fc.record({
        gap: fc.integer({ min: 0, max: 1500 }),
        pages: fc.integer({ min: 1, max: 3000 }),
      }),
      { minLength: 1, maxLength: 30 },
    )
    .map((pieces) => {
      let next = 0x1000
      return pieces.map(({ gap, pages }) => {
        const start = next + gap * 4096
        next = start + pages * 4096
        return region(start, pages)
      })
    })

  test('have the offset in a large page that the physical ones have, and do not overlap', () => {
    fc.assert(
      fc.property(ascending, (map) => {
        const placed = placeAll(map.toReversed()).toReversed() as bigint[]
        let end = 0n
        for (const [index, { physicalStart, numberOfPages }] of map.entries()) {
          const address = placed[index]!
          expect(address % LARGE).toBe(BigInt(physicalStart) % LARGE)
          expect(address).toBeGreaterThanOrEqual(end)
          end = address + BigInt(numberOfPages * 4096)
        }
        expect(end).toBeLessThanOrEqual(EFI_VA_START)
      }),
    )
  })

  test('in reverse order keep gaps of less than 2 MiB, and shorten others to what they leave', () => {
    fc.assert(
      fc.property(ascending, (map) => {
        const placed = placeAll(map.toReversed()).toReversed() as bigint[]
        for (const [index, { physicalStart, numberOfPages }] of map.slice(0, -1).entries()) {
          const bytes = BigInt(numberOfPages * 4096)
          const gap = BigInt(map[index + 1]!.physicalStart) - BigInt(physicalStart) - bytes
          expect(placed[index + 1]! - placed[index]! - bytes).toBe(gap % LARGE)
        }
      }),
    )
  })

  test('in map order do not keep code and data of one image together', () => {
    const map = [region(0x1000_0000, 16), region(0x1001_0000, 16)]
    const [code, data] = placeAll(map) as [bigint, bigint]
    expect(data - code).not.toBe(0x1_0000n)
    const [dataAfter, codeAfter] = placeAll(map.toReversed()) as [bigint, bigint]
    expect(dataAfter - codeAfter).toBe(0x1_0000n)
  })
})

describe('merging', () => {
  test('adds what follows with the same type and attribute, and leaves a reserved descriptor behind', () => {
    const first = region(0x1000, 2)
    const second = region(0x3000, 3)
    const other = { ...region(0x6000, 1), type: MemoryType.RuntimeServicesCode }
    expect(mergeRegions([first, second, other])).toEqual([
      { ...first, numberOfPages: 5 },
      { ...second, type: MemoryType.ReservedMemoryType, attribute: 0n },
      other,
    ])
  })

  test('looks at the one before in the map’s order, not at addresses', () => {
    const map = [region(0x3000, 3), region(0x1000, 2)]
    expect(mergeRegions(map)).toEqual(map)
  })

  test('keeps apart what differs in an attribute', () => {
    const map = [region(0x1000, 2), { ...region(0x3000, 1), attribute: MemoryAttribute.RUNTIME }]
    expect(mergeRegions(map)).toEqual(map)
  })
})
