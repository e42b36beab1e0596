import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { isRuntime, MemoryType } from '@trapdoor/uefi'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readObservedSnapshot, readRecordedCalls } from '../src/index.ts'
import { RECORDED, snapshotFolder } from './shared-data.ts'

describe.skipIf(!RECORDED)('recorded snapshots (skipped where the shared data is absent)', () => {
  test('a PC with 2 MiB of flash: map, tables, registers, flash and memory', () => {
    const snapshot = readObservedSnapshot(snapshotFolder('pc-2M-512M'))
    expect(snapshot).toMatchObject({
      name: 'pc-2M-512M',
      board: 'pc',
      architecture: 'x64',
      la57: false,
      smm: false,
      systemTable: 0x1f9e_c018,
      flash: { address: 0xffe0_0000 },
      cpu: { cr3: 0x1fc0_1000, efer: 0xd00, rip: 0x1ff0_ae65n },
    })
    expect(snapshot.cpu.segments.cs).toEqual({
      selector: 0x38,
      base: 0n,
      limit: 0xffff_ffff,
      rights: 0xa0_9a00,
    })
    expect(snapshot.memoryMap.filter(isRuntime).map(({ type }) => type)).toEqual([
      MemoryType.RuntimeServicesData,
      MemoryType.RuntimeServicesData,
      MemoryType.RuntimeServicesCode,
      MemoryType.RuntimeServicesData,
      MemoryType.MemoryMappedIO,
    ])
    expect(snapshot.flash!.contents.length).toBe(0x2_0000)
    const tables = snapshot.pages.find(({ address }) => address === 0x1f8e_d000)!
    const signature = tables.bytes.subarray(0x1f9e_c018 - 0x1f8e_d000).subarray(0, 8)
    expect(new TextDecoder().decode(signature)).toBe('IBI SYST')
  })

  test('a Q35 with 4 MiB of flash', () => {
    expect(readObservedSnapshot(snapshotFolder('q35-4M-512M'))).toMatchObject({
      board: 'q35',
      smm: false,
      flash: { address: 0xffc0_0000 },
    })
  })

  test('the calls that were recorded, what they were given and what they did', () => {
    const { calls, cpu, scratch, tables } = readRecordedCalls(snapshotFolder('pc-2M-512M'))
    expect([calls.length, tables.length, cpu.cr3, cpu.cr4]).toEqual([
      57, 117, 0x41b_e000, 0x75_0eb0,
    ])
    expect(scratch).toEqual({ address: 0x1bf7_5000, bytes: 0x2_0000 })
    const call = calls.find(({ name }) => name === 'phys/SetVariable-new')!
    expect(call).toMatchObject({
      service: 'SetVariable',
      functionAddress: 0x1fa6_c0f8n,
      args: [0x1bf7_5000n, 0x1bf7_5800n, 7n, 0x10n, 0x1bf7_6000n],
      status: 0n,
      restored: false,
      counts: { instructions: 288_632, distinct: 1253, loads: 6838, stores: 265_161 },
    })
    expect(call.runtimeChanges[0]).toEqual({
      address: 0x1ef3_b040,
      before: 0x8be4_df61_0000_0092n,
      after: 0x1234_5678_0000_0010n,
    })
    expect(call.devices.find(({ device }) => device !== 'apic-msi')).toEqual({
      kind: 'write',
      device: 'system.flash1',
      address: 0xffe0_39f8,
      value: 0x10,
      size: 1,
    })
    expect(calls.filter(({ restored }) => restored).map(({ name }) => name)).toEqual([
      'svam/bad-version',
      'svam/bad-descsize',
      'svam/identity/GetVariable',
      'svam/kernel-map-descsize40',
      'svam/runtime-only',
      'svam/direct-map-offset',
      'svam/missing-region-1ff58000',
    ])
  })

  describe('damaged', () => {
    let folder: string
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'trapdoor-'))
    })
    afterAll(() => {
      rmSync(folder, { recursive: true })
    })

    /** A copy of a snapshot with one file changed. */
    function damaged(name: string, change: (bytes: Buffer) => Uint8Array | undefined): string {
      const copy = join(folder, 'snapshot')
      rmSync(copy, { recursive: true, force: true })
      cpSync(snapshotFolder('pc-2M-512M'), copy, { recursive: true, mode: 0 })
      const file = join(copy, name)
      const changed = change(readFileSync(file))
      rmSync(file)
      if (changed !== undefined) writeFileSync(file, changed)
      return copy
    }

    test.each([
      ['snapshot.json', () => undefined, 'SNAPSHOT_NOT_FOUND', /no such file/],
      [
        'snapshot.json',
        replaced('{', '{ "format_version": 9,'),
        'SNAPSHOT_BAD_CONTENT',
        /in format_version/,
      ],
      [
        'rt.pages.gz',
        (bytes: Buffer) => bytes.subarray(0, 1000),
        'SNAPSHOT_DAMAGED',
        /unexpected end/,
      ],
      ['snapshot.json', (bytes: Buffer) => bytes.subarray(0, 1000), 'SNAPSHOT_DAMAGED', /JSON/],
      ['snapshot.json', replaced('"0x1f9ec018"', '"here"'), 'SNAPSHOT_BAD_CONTENT', /in systab_pa/],
      [
        'snapshot.json',
        replaced(/"pages": 160/, '"pages": -1'),
        'SNAPSHOT_BAD_CONTENT',
        /memmap\[0\]\.pages/,
      ],
      [
        'snapshot.json',
        replaced('"A-ebs": {', '"A-other": {'),
        'SNAPSHOT_BAD_CONTENT',
        /none in stages/,
      ],
      [
        'snapshot.json',
        replaced('"systab_pa": "0x1f9ec018"', '"systab_pa": "0x1f9ec020"'),
        'SNAPSHOT_BAD_CONTENT',
        /in systab_pa/,
      ],
      [
        'rt.pages.gz',
        unpacked((bytes) => bytes.subarray(4096)),
        'SNAPSHOT_DAMAGED',
        /^4558848 bytes$/,
      ],
      [
        'rt.pages.gz',
        unpacked((bytes) => bytes.fill(bytes[0]! ^ 1, 0, 1)),
        'SNAPSHOT_DAMAGED',
        /^[\da-f]{64}$/,
      ],
      [
        'flash-handoff.fd.gz',
        unpacked((bytes) => bytes.subarray(0, 1000)),
        'SNAPSHOT_DAMAGED',
        /^1000 bytes$/,
      ],
      [
        'pt-A.json',
        replaced(/"pages": \[\[.*?\], /, '"pages": ['),
        'SNAPSHOT_BAD_CONTENT',
        /5 in pages/,
      ],
    ] as const)('%s, case $#', (name, change, code, found) => {
      const path = damaged(name, change)
      expect(() => readObservedSnapshot(path)).toThrow(
        expect.objectContaining({
          name: 'SnapshotError',
          code,
          file: join(path, name),
          found: expect.stringMatching(found) as string,
        }),
      )
    })

    test.each([
      ['a status', replaced('"rax": "0x0"', '"rax": 0'), /vectors\[0\]\.rax/],
      ['a service', replaced('"fn": "GetTime"', '"fn": "GetClock"'), /vectors\[0\]\.fn/],
      ['counts', replaced('insns=1184', 'insns='), /vectors\[0\]\.plugin\[0\]/],
      ['a page', replaced('va=1bf75000 pa', 'va=1bf75000 pp'), /vectors\[0\]\.pages\[0\]/],
      [
        'a port',
        replaced('["read", "rtc-index"', '["peek", "rtc-index"'),
        /vectors\[0\]\.io\[0\]\[0\]/,
      ],
    ] as const)('calls, of which one has %s that is none', (_, change, found) => {
      const path = damaged('vectors.json.gz', change)
      expect(() => readRecordedCalls(path)).toThrow(
        expect.objectContaining({
          code: 'SNAPSHOT_BAD_CONTENT',
          file: join(path, 'vectors.json.gz'),
          found: expect.stringMatching(found) as string,
        }),
      )
    })
  })
})

test('a folder that is not there is said to be not there, and a file to be one', () => {
  expect(() => readObservedSnapshot('/no/such/folder')).toThrow(
    expect.objectContaining({ code: 'SNAPSHOT_NOT_FOUND', file: '/no/such/folder' }),
  )
  expect(() => readObservedSnapshot(import.meta.filename)).toThrow(
    expect.objectContaining({ code: 'SNAPSHOT_NOT_FOUND', found: 'a file' }),
  )
})

/** A change of what is in a packed file. */
function unpacked(change: (bytes: Buffer) => Uint8Array): (bytes: Buffer) => Uint8Array {
  return (bytes) => gzipSync(change(gunzipSync(bytes)))
}

/** A change of a file, packed or not, by its text. */
function replaced(text: string | RegExp, by: string): (bytes: Buffer) => Uint8Array {
  return (bytes) => {
    const isPacked = bytes[0] === 0x1f
    const changed = Buffer.from((isPacked ? gunzipSync(bytes) : bytes).toString().replace(text, by))
    return isPacked ? gzipSync(changed) : changed
  }
}
