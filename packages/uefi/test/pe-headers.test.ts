import { expect, test } from 'vitest'
import { debugFileName, decodePeHeaders } from '../src/index.ts'

const SIGNATURE = 0xe58
const OPTIONAL = SIGNATURE + 24
const SECTIONS = OPTIONAL + 240
const DEBUG_DIRECTORY = OPTIONAL + 112 + 6 * 8

/** Headers as GenFw writes them for a runtime driver, with sections .text and .data. */
function headers(change: (view: DataView) => void = () => {}): Uint8Array {
  const bytes = new Uint8Array(4096)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, 0x5a4d, true)
  view.setUint32(0x3c, SIGNATURE, true)
  view.setUint32(SIGNATURE, 0x4550, true)
  view.setUint16(SIGNATURE + 4, 0x8664, true)
  view.setUint16(SIGNATURE + 6, 2, true)
  view.setUint16(SIGNATURE + 20, 240, true)
  view.setUint16(OPTIONAL, 0x20b, true)
  view.setUint32(OPTIONAL + 56, 0x3000, true)
  view.setUint16(OPTIONAL + 68, 12, true)
  view.setUint32(OPTIONAL + 108, 16, true)
  for (const [index, [name, flags]] of [
    ['.text', 0x6000_0020],
    ['.data', 0xc000_0040],
  ].entries() as Iterable<[number, [string, number]]>) {
    const at = SECTIONS + index * 40
    bytes.set(new TextEncoder().encode(name), at)
    view.setUint32(at + 8, 0x1000, true)
    view.setUint32(at + 12, 0x1000 * (index + 1), true)
    view.setUint32(at + 36, flags, true)
  }
  change(view)
  return bytes
}

function nothing(_: number, length: number): Uint8Array {
  return new Uint8Array(length)
}

test('headers of a 64-bit runtime driver', () => {
  expect(decodePeHeaders(headers())).toEqual({
    machine: 0x8664,
    subsystem: 12,
    signature: SIGNATURE,
    bytes: 0x3000,
    sections: [
      { name: '.text', address: 0x1000, bytes: 0x1000, executable: true, writable: false },
      { name: '.data', address: 0x2000, bytes: 0x1000, executable: false, writable: true },
    ],
    debugDirectory: undefined,
  })
})

test('a 32-bit driver has shorter headers', () => {
  const driver = decodePeHeaders(
    headers((view) => {
      view.setUint16(SIGNATURE + 4, 0x14c, true)
      view.setUint16(OPTIONAL, 0x10b, true)
      view.setUint32(OPTIONAL + 92, 16, true)
      view.setUint32(OPTIONAL + 96 + 6 * 8, 0x1800, true)
      view.setUint32(OPTIONAL + 96 + 6 * 8 + 4, 28, true)
    }),
  )
  expect(driver).toMatchObject({ machine: 0x14c, debugDirectory: { address: 0x1800, bytes: 28 } })
})

test.each([
  ['of something else', (view: DataView) => view.setUint16(0, 0x5a4e, true)],
  ['whose signature is beyond the page', (view: DataView) => view.setUint32(0x3c, 0xfff0, true)],
  ['without PE signature', (view: DataView) => view.setUint32(SIGNATURE, 0x4551, true)],
  ['of a ROM image', (view: DataView) => view.setUint16(OPTIONAL, 0x107, true)],
  ['of a Windows program', (view: DataView) => view.setUint16(OPTIONAL + 68, 3, true)],
  [
    'with more sections than a page holds',
    (view: DataView) => view.setUint16(SIGNATURE + 6, 99, true),
  ],
])('a page %s is no EFI image', (_, change) => {
  expect(decodePeHeaders(headers(change))).toBeUndefined()
  expect(decodePeHeaders(new Uint8Array(16))).toBeUndefined()
})

test.each([
  ['RSDS', 24],
  ['NB10', 16],
  ['MTOC', 20],
])('the debug directory names the file of an image by an entry %s', (signature, offset) => {
  const image = decodePeHeaders(
    headers((view) => {
      view.setUint32(DEBUG_DIRECTORY, 0x1800, true)
      view.setUint32(DEBUG_DIRECTORY + 4, 56, true)
    }),
  )!
  const memory = new Uint8Array(0x3000)
  const view = new DataView(memory.buffer)
  // The first entry is of another kind.
  view.setUint32(0x1800 + 12, 16, true)
  view.setUint32(0x181c + 12, 2, true)
  view.setUint32(0x181c + 16, 64, true)
  view.setUint32(0x181c + 20, 0x1900, true)
  memory.set(new TextEncoder().encode(signature), 0x1900)
  memory.set(new TextEncoder().encode('/build/X64/VariableRuntimeDxe.dll'), 0x1900 + offset)
  const read = (address: number, length: number): Uint8Array =>
    memory.subarray(address, address + length)
  expect(debugFileName(image, read)).toBe('/build/X64/VariableRuntimeDxe.dll')
})

test('without a debug directory, or with entries that say nothing, an image has no file name', () => {
  expect(debugFileName(decodePeHeaders(headers())!, nothing)).toBeUndefined()
  const image = decodePeHeaders(
    headers((view) => {
      view.setUint32(DEBUG_DIRECTORY, 0x1800, true)
      view.setUint32(DEBUG_DIRECTORY + 4, 28, true)
    }),
  )!
  expect(debugFileName(image, nothing)).toBeUndefined()
})
