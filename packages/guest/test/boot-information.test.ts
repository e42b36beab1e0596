import { describe, expect, test } from 'vitest'
import { encodeBootInformation } from '../src/index.ts'

const AT = 0x9000
const INFORMATION = {
  commandLine: 'guest.flat one two',
  loaderName: 'loader',
  memoryMap: [
    { start: 0, end: 0x9_fc00, type: 1 },
    { start: 0x9_fc00, end: 0x10_0000, type: 2 },
    { start: 0x10_0000, end: 0x800_0000, type: 1 },
  ],
  modules: [{ start: 0x20_0000, end: 0x20_0010, commandLine: 'environment' }],
} as const

describe('the boot information', () => {
  const bytes = encodeBootInformation(INFORMATION, AT)
  const view = new DataView(bytes.buffer)
  const field = (offset: number): number => view.getUint32(offset, true)
  const text = (address: number): string => {
    const start = address - AT
    return new TextDecoder().decode(bytes.subarray(start, bytes.indexOf(0, start)))
  }

  test('says which of its fields are there, and how much memory there is below 640 KiB and above 1 MiB', () => {
    expect(field(0)).toBe(0x24d)
    expect([field(4), field(8)]).toEqual([639, 127 * 1024])
  })

  test('points to its strings', () => {
    expect([text(field(16)), text(field(64))]).toEqual(['guest.flat one two', 'loader'])
  })

  test('lists the modules', () => {
    expect(field(20)).toBe(1)
    const at = field(24) - AT
    expect([field(at), field(at + 4), text(field(at + 8))]).toEqual([
      0x20_0000,
      0x20_0010,
      'environment',
    ])
  })

  test('has a memory map whose entries each say how long they are', () => {
    const entries: unknown[] = []
    const start = field(48) - AT
    for (let at = start; at < start + field(44); at += field(at) + 4) {
      entries.push([
        view.getBigUint64(at + 4, true),
        view.getBigUint64(at + 12, true),
        field(at + 20),
      ])
    }
    expect(entries).toEqual([
      [0n, 0x9_fc00n, 1],
      [0x9_fc00n, 0x6_0400n, 2],
      [0x10_0000n, 0x7f0_0000n, 1],
    ])
  })
})
