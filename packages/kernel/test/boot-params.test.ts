import { IA32, X64 } from '@trapdoor/uefi'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  BOOT_PARAMS_BYTES,
  type BootParams,
  decodeBootParams,
  E820_MAX,
  E820Type,
  encodeBootParams,
} from '../src/index.ts'

const PARAMS: BootParams = {
  efi: {
    architecture: X64,
    systab: 0x12_3456_7018,
    memmap: 0x7_8000_0000,
    memmapSize: 0x1320,
    memdescSize: 48,
    memdescVersion: 1,
  },
  e820: [
    { start: 0, end: 0x9_f000, type: E820Type.RAM },
    { start: 0x1_0000_0000, end: 0x12_8000_0000, type: E820Type.RESERVED },
  ],
  commandLine: 'quiet virtefi',
  setupData: 0x1234_5000,
}

describe('the zero page (Documentation/x86/zero-page.txt)', () => {
  const bytes = encodeBootParams(PARAMS, 0x9_0000)
  const view = new DataView(bytes.buffer)

  test('has efi_info at 0x1c0, addresses in two halves', () => {
    const words = Array.from({ length: 8 }, (_, index) => view.getUint32(0x1c0 + index * 4, true))
    expect(words).toEqual([0x3436_4c45, 0x3456_7018, 48, 1, 0x8000_0000, 0x1320, 0x12, 0x7])
    expect(new TextDecoder().decode(bytes.subarray(0x1c0, 0x1c4))).toBe('EL64')
  })

  test('has the number of e820 entries at 0x1e8 and entries of 20 bytes from 0x2d0', () => {
    expect(view.getUint8(0x1e8)).toBe(2)
    expect([
      view.getBigUint64(0x2d0 + 20, true),
      view.getBigUint64(0x2d0 + 28, true),
      view.getUint32(0x2d0 + 36, true),
    ]).toEqual([0x1_0000_0000n, 0x11_8000_0000n, 2])
  })

  test('has the physical address of the command line at 0x228, and a terminated line there', () => {
    const offset = view.getUint32(0x228, true) - 0x9_0000
    const line = bytes.subarray(offset, offset + PARAMS.commandLine.length + 1)
    expect(new TextDecoder().decode(line)).toBe('quiet virtefi\0')
  })

  test('has the first setup_data at 0x250', () => {
    expect(view.getBigUint64(0x250, true)).toBe(0x1234_5000n)
  })

  test('is as long as it says', () => {
    expect(bytes).toHaveLength(BOOT_PARAMS_BYTES)
  })
})

const address = fc.nat({ max: Number.MAX_SAFE_INTEGER })
const word = fc.nat(0xffff_ffff)

test('what is encoded is decoded again', () => {
  const params = fc.record({
    efi: fc.option(
      fc.record({
        architecture: fc.constantFrom(X64, IA32),
        systab: address,
        memmap: address,
        memmapSize: word,
        memdescSize: word,
        memdescVersion: word,
      }),
      { nil: undefined },
    ),
    e820: fc.array(
      fc
        .record({
          start: fc.nat(2 ** 48),
          bytes: fc.nat(2 ** 48),
          type: fc.constantFrom(...Object.values(E820Type)),
        })
        .map(({ start, bytes, type }) => ({ start, end: start + bytes, type })),
      { maxLength: E820_MAX },
    ),
    commandLine: fc.string({ maxLength: 400 }).filter((line) => !line.includes('\0')),
    setupData: address,
  })
  fc.assert(
    fc.property(params, (expected) => {
      expect(decodeBootParams(encodeBootParams(expected, 0x9_0000))).toEqual(expected)
    }),
  )
})

test('a loader that keeps silent about EFI leaves no signature', () => {
  const bytes = encodeBootParams({ ...PARAMS, efi: undefined }, 0x9_0000)
  expect(new DataView(bytes.buffer).getUint32(0x1c0, true)).toBe(0)
  expect(decodeBootParams(bytes).efi).toBeUndefined()
})

test('e820 entries for which the zero page has no room are lost', () => {
  const e820 = Array.from({ length: E820_MAX + 3 }, (_, index) => ({
    start: index * 0x2000,
    end: index * 0x2000 + 0x1000,
    type: E820Type.RAM,
  }))
  expect(decodeBootParams(encodeBootParams({ ...PARAMS, e820 }, 0)).e820).toEqual(
    e820.slice(0, 128),
  )
})

test('a command line that is too long is cut, and still ends', () => {
  const commandLine = 'x'.repeat(3000)
  expect(decodeBootParams(encodeBootParams({ ...PARAMS, commandLine }, 0)).commandLine).toBe(
    'x'.repeat(2047),
  )
})

test('bytes that lie somewhere inside a buffer are decoded as well', () => {
  const bytes = encodeBootParams(PARAMS, 0)
  const buffer = new Uint8Array(bytes.length + 100)
  buffer.set(bytes, 60)
  expect(decodeBootParams(buffer.subarray(60, 60 + bytes.length))).toEqual(PARAMS)
})
