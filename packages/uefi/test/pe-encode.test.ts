import { expect, test } from 'vitest'
import { encodePeApplication, PE_SECTION_ALIGNMENT, type PeApplication } from '../src/index.ts'
import { thrownBy } from './thrown.ts'

const APPLICATION: PeApplication = {
  architecture: 'x64',
  imageBase: 0x400_0000,
  entryPoint: 0x1010,
  sections: [
    {
      name: '.text',
      address: 0x1000,
      size: 0x20,
      contents: new Uint8Array(0x20).fill(0xf4),
      access: 'read-execute',
    },
    {
      name: '.data',
      address: 0x2000,
      size: 0x1234,
      contents: Uint8Array.of(1, 2, 3),
      access: 'read-write',
    },
  ],
}

/** The fields of a file that a loader looks at, found by the offsets of the specification. */
function fieldsOf(file: Uint8Array): Record<string, unknown> {
  const view = new DataView(file.buffer)
  const pe = view.getUint32(0x3c, true)
  const optional = pe + 24
  const isWide = view.getUint16(optional, true) === 0x20b
  const count = view.getUint16(pe + 6, true)
  const table = optional + view.getUint16(pe + 20, true)
  return {
    signatures: [view.getUint16(0, true), view.getUint32(pe, true)],
    machine: view.getUint16(pe + 4, true),
    isWide,
    entry: view.getUint32(optional + 16, true),
    base: isWide
      ? Number(view.getBigUint64(optional + 24, true))
      : view.getUint32(optional + 28, true),
    imageSize: view.getUint32(optional + 56, true),
    subsystem: view.getUint16(optional + 68, true),
    directories: view.getUint32(table - 16 * 8 - 4, true),
    sections: Array.from({ length: count }, (_, index) => {
      const at = table + index * 40
      const offset = view.getUint32(at + 20, true)
      return {
        name: new TextDecoder().decode(file.subarray(at, at + 8)).replaceAll('\0', ''),
        size: view.getUint32(at + 8, true),
        address: view.getUint32(at + 12, true),
        first: [...file.subarray(offset, offset + 4)],
        flags: view.getUint32(at + 36, true),
      }
    }),
  }
}

test('a 64-bit application is a PE32+ image whose sections are where they were put', () => {
  expect(fieldsOf(encodePeApplication(APPLICATION))).toEqual({
    signatures: [0x5a4d, 0x4550],
    machine: 0x8664,
    isWide: true,
    entry: 0x1010,
    base: 0x400_0000,
    imageSize: 0x4000,
    subsystem: 10,
    directories: 16,
    sections: [
      {
        name: '.text',
        size: 0x20,
        address: 0x1000,
        first: [244, 244, 244, 244],
        flags: 0x60000020,
      },
      { name: '.data', size: 0x1234, address: 0x2000, first: [1, 2, 3, 0], flags: 0xc0000040 },
    ],
  })
})

test('a 32-bit one is a PE32 image', () => {
  const file = encodePeApplication({ ...APPLICATION, architecture: 'ia32' })
  expect(fieldsOf(file)).toMatchObject({
    machine: 0x14c,
    isWide: false,
    base: 0x400_0000,
    subsystem: 10,
    directories: 16,
    imageSize: 0x4000,
  })
  expect(file.length % PE_SECTION_ALIGNMENT).toBe(0)
})

test('sections that overlap, are too full or misaligned, and an image without any, are refused', () => {
  const [text, data] = APPLICATION.sections
  for (const sections of [
    [text!, { ...data!, address: 0x1000 }],
    [text!, { ...data!, address: 0x2010 }],
    [text!, { ...data!, size: 2 }],
    [{ ...text!, name: 'nine_char' }],
    [{ ...text!, address: 0 }],
    [],
  ]) {
    expect(thrownBy(() => encodePeApplication({ ...APPLICATION, sections }))).toMatchObject({
      code: 'UEFI_BAD_IMAGE',
    })
  }
})
