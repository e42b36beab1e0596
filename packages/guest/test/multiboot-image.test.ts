import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  GuestError,
  type GuestErrorCode,
  MULTIBOOT_MAGIC,
  readMultibootImage,
} from '../src/index.ts'
import { elfFile, multibootHeader } from './elf-file.ts'

const HAS_ADDRESSES = 0x1_0000
const CODE = Uint8Array.of(0xf4, 0xeb, 0xfd, 0x90)

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts))
}

function refusal(bytes: Uint8Array): Pick<GuestError, 'code' | 'file' | 'offset'> {
  try {
    readMultibootImage(bytes, 'image')
  } catch (error) {
    if (error instanceof GuestError) {
      return { code: error.code, file: error.file, offset: error.offset }
    }
    throw error
  }
  throw new Error('it was read')
}

function refused(code: GuestErrorCode, offset?: number): object {
  return { code, file: 'image', offset }
}

describe('an ELF image', () => {
  test.each([32, 64] as const)('of %i bits goes to its physical addresses', (bits) => {
    const content = joined(multibootHeader(3), CODE)
    const image = readMultibootImage(
      elfFile({
        bits,
        entry: 0xc010_000cn,
        segments: [
          { virtual: 0xc010_0000n, physical: 0x10_0000n, bytes: content, memorySize: 0x2000 },
          { virtual: 0xc020_0000n, physical: 0x20_0000n, bytes: CODE },
        ],
      }),
      'image',
    )
    expect(image).toMatchObject({ entry: 0x10_000c, alignsModules: true, wantsVideo: false })
    expect(image.segments.map(({ address, size, bytes }) => [address, size, [...bytes]])).toEqual([
      [0x10_0000, 0x2000, [...content]],
      [0x20_0000, CODE.length, [...CODE]],
    ])
  })

  test('whose entry point is in no segment is refused, as GRUB refuses it', () => {
    const segment = { virtual: 0xc010_0000n, physical: 0x10_0000n, bytes: multibootHeader(0) }
    const file = elfFile({ bits: 32, entry: 0x10_0000n, segments: [segment] })
    expect(refusal(file)).toEqual(refused('GUEST_BAD_ELF', 24))
  })

  test('for another machine is refused', () => {
    const segment = { virtual: 0n, physical: 0n, bytes: multibootHeader(0) }
    const file = elfFile({ bits: 64, entry: 0n, segments: [segment], machine: 183 })
    expect(refusal(file)).toEqual(refused('GUEST_BAD_ELF', 18))
  })

  test('cut short is refused at the program header that leads outside', () => {
    const segment = { virtual: 0n, physical: 0n, bytes: joined(multibootHeader(0), CODE) }
    const file = elfFile({ bits: 32, entry: 0n, segments: [segment] })
    expect(refusal(file.subarray(0, -1))).toEqual(refused('GUEST_BAD_ELF', 52))
  })

  test('with a segment beyond 4 GiB is refused', () => {
    const segment = { virtual: 0n, physical: 1n << 32n, bytes: multibootHeader(0) }
    const file = elfFile({ bits: 64, entry: 0n, segments: [segment] })
    expect(refusal(file)).toEqual(refused('GUEST_BAD_HEADER'))
  })
})

describe('a flat image', () => {
  test('goes where its header says, with zeros behind', () => {
    const header = multibootHeader(HAS_ADDRESSES, [0x10_0004, 0x10_0000, 0, 0x10_1000, 0x10_0024])
    const file = joined(Uint8Array.of(1, 2, 3, 4), header, CODE)
    const image = readMultibootImage(file, 'image')
    expect(image.entry).toBe(0x10_0024)
    expect(image.segments).toEqual([{ address: 0x10_0000, size: 0x1000, bytes: file }])
  })

  test('may end before the file does', () => {
    const header = multibootHeader(HAS_ADDRESSES, [0x10_0000, 0x10_0000, 0x10_0022, 0, 0x10_0020])
    const image = readMultibootImage(joined(header, CODE), 'image')
    expect(image.segments[0]?.size).toBe(0x22)
  })

  test.each<[string, number[], number]>([
    ['loads from before the file', [0x10_0010, 0x10_0000, 0, 0, 0], 12],
    ['has its header below what is loaded', [0x0f_0000, 0x10_0000, 0, 0, 0], 12],
    ['loads beyond the file', [0x10_0000, 0x10_0000, 0x10_1000, 0, 0], 12],
    ['zeroes what it loads', [0x10_0000, 0x10_0000, 0, 0x10_0001, 0], 24],
  ])('that %s is refused', (_, addresses, offset) => {
    expect(refusal(multibootHeader(HAS_ADDRESSES, addresses))).toEqual(
      refused('GUEST_BAD_HEADER', offset),
    )
  })

  test('without addresses, or with some of them cut off, is refused', () => {
    expect(refusal(multibootHeader(0))).toEqual(refused('GUEST_BAD_HEADER', 4))
    expect(refusal(multibootHeader(HAS_ADDRESSES, [0, 0]))).toEqual(refused('GUEST_BAD_HEADER', 0))
  })
})

describe('a file without a Multiboot header', () => {
  test.each<[string, Uint8Array, string]>([
    ['empty', new Uint8Array(), 'an empty file'],
    ['a PE executable', Uint8Array.of(0x4d, 0x5a, 0x90, 0), 'a DOS or PE executable'],
    ['a gzip file', Uint8Array.of(0x1f, 0x8b, 8, 0), 'a gzip file'],
    ['ELF', Uint8Array.of(0x7f, 0x45, 0x4c, 0x46), 'an ELF file without one'],
    ['text', new TextEncoder().encode('hello'), '5 bytes without one'],
  ])('%s says what it seems to be', (_, bytes, found) => {
    expect(() => readMultibootImage(bytes, 'image')).toThrow(
      expect.objectContaining({ code: 'GUEST_NOT_MULTIBOOT', found }),
    )
  })

  test('is one whose header comes after 8 KiB, or at an odd place', () => {
    for (const before of [8192, 2]) {
      const file = joined(new Uint8Array(before), multibootHeader(0), new Uint8Array(8192))
      expect(refusal(file)).toEqual(refused('GUEST_NOT_MULTIBOOT', 0))
    }
  })

  test('is none where the checksum is wrong', () => {
    const header = multibootHeader(0)
    header[8]! ^= 1
    expect(refusal(joined(CODE, header))).toEqual(refused('GUEST_BAD_HEADER', 12))
  })

  test('any bytes are read or refused with a place in the file', () => {
    const header = fc.tuple(fc.integer({ min: 0, max: 0x1_0007 }), fc.uint8Array({ maxLength: 80 }))
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), header, (before, [flags, after]) => {
        const aligned = before.subarray(0, before.length & ~3)
        const file = joined(aligned, multibootHeader(flags), after)
        let outcome: unknown
        try {
          outcome = readMultibootImage(file, 'image').segments.every(
            ({ bytes, size }) => size >= bytes.length,
          )
        } catch (error) {
          outcome = error instanceof GuestError && error.file === 'image'
        }
        expect(outcome).toBe(true)
      }),
    )
  })
})

test('requirements that no loader of Multiboot 1 knows are refused', () => {
  expect(refusal(multibootHeader(0x8))).toEqual(refused('GUEST_BAD_HEADER', 4))
  expect(MULTIBOOT_MAGIC).toBe(0x1bad_b002)
})
