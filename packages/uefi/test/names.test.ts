import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  EfiStatus,
  efiStatusName,
  formatMemoryAttribute,
  isEfiError,
  MemoryAttribute,
  MemoryType,
  memoryTypeName,
  ResetType,
  VariableAttribute,
} from '../src/index.ts'

describe('memory types', () => {
  test.each([
    [0, 'ReservedMemoryType'],
    [5, 'RuntimeServicesCode'],
    [7, 'ConventionalMemory'],
    [11, 'MemoryMappedIO'],
    [15, 'UnacceptedMemoryType'],
    [16, 'type 0x10'],
    [0x7000_0001, 'type 0x70000001'],
    [0xffff_ffff, 'type 0xffffffff'],
  ])('%i is called %s', (type, name) => {
    expect(memoryTypeName(type)).toBe(name)
  })

  test('there are sixteen with a name, numbered without a gap', () => {
    expect(Object.values(MemoryType)).toEqual([...Array.from({ length: 16 }).keys()])
  })
})

describe('memory attributes', () => {
  // Bit numbers of UEFI 2.10, 7.2.3.
  test.each([
    ['UC', 0n],
    ['WC', 1n],
    ['WT', 2n],
    ['WB', 3n],
    ['UCE', 4n],
    ['WP', 12n],
    ['RP', 13n],
    ['XP', 14n],
    ['NV', 15n],
    ['MORE_RELIABLE', 16n],
    ['RO', 17n],
    ['SP', 18n],
    ['CPU_CRYPTO', 19n],
    ['HOT_PLUGGABLE', 20n],
    ['ISA_VALID', 62n],
    ['RUNTIME', 63n],
  ] as const)('%s is bit %i', (name, bit) => {
    expect(MemoryAttribute[name]).toBe(1n << bit)
    expect(formatMemoryAttribute(1n << bit)).toBe(name)
  })

  test.each([
    [0n, ''],
    [0xfn, 'UC|WC|WT|WB'],
    [0x8000_0000_0000_100dn, 'RUNTIME|UC|WT|WB|WP'],
    [0x0800_0000_0000_000fn, 'UC|WC|WT|WB|0x800000000000000'],
  ])('%i is written %j', (attribute, text) => {
    expect(formatMemoryAttribute(attribute)).toBe(text)
  })

  test('no bit is lost in writing', () => {
    const bits: ReadonlyMap<string, bigint> = new Map(Object.entries(MemoryAttribute))
    fc.assert(
      fc.property(fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }), (attribute) => {
        const words = formatMemoryAttribute(attribute).split('|')
        const sum = words.reduce(
          (bitsSoFar, word) => bitsSoFar | (bits.get(word) ?? BigInt(word)),
          0n,
        )
        expect(sum).toBe(attribute)
      }),
    )
  })
})

describe('status codes', () => {
  // Values of UEFI 2.10, appendix D.
  test.each([
    [0x0n, 'EFI_SUCCESS', false],
    [0x5n, 'EFI_WARN_STALE_DATA', false],
    [0x8000_0000_0000_0002n, 'EFI_INVALID_PARAMETER', true],
    [0x8000_0000_0000_0005n, 'EFI_BUFFER_TOO_SMALL', true],
    [0x8000_0000_0000_000en, 'EFI_NOT_FOUND', true],
    [0x8000_0000_0000_001an, 'EFI_SECURITY_VIOLATION', true],
    [0x8000_0000_0000_0023n, 'EFI_HTTP_ERROR', true],
    [0x8000_0000_0000_1234n, '0x8000000000001234', true],
    [0x77n, '0x0000000000000077', false],
  ])('%i is %s', (status, name, error) => {
    expect(efiStatusName(status)).toBe(name)
    expect(isEfiError(status)).toBe(error)
  })

  test('every status has a value of its own', () => {
    const values = Object.values(EfiStatus)
    expect(new Set(values).size).toBe(values.length)
  })
})

test('resets are numbered as in the specification', () => {
  expect(ResetType).toEqual({ Cold: 0, Warm: 1, Shutdown: 2, PlatformSpecific: 3 })
})

test('each variable attribute is one bit of its own', () => {
  expect(Object.values(VariableAttribute)).toEqual([1, 2, 4, 8, 16, 32, 64])
})
