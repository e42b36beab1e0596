import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { MemoryType, RUNTIME_SERVICES, type RuntimeServiceName } from '@trapdoor/uefi'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  readObservedSnapshot,
  readRecordedCalls,
  type SnapshotContents,
  type WrittenCall,
  checkSnapshotFolder,
  writeSnapshot,
} from '../src/index.ts'

const PAGE = 4096

function page(fill: number): Uint8Array {
  return new Uint8Array(PAGE).fill(fill)
}

/** A page with the system table's signature where {@link CONTENTS} has that. */
const TABLE_PAGE = Buffer.from(page(1))
TABLE_PAGE.write('IBI SYST', 0x18, 'latin1')

const CONTENTS: SnapshotContents = {
  name: 'pc-OVMF_CODE-512M',
  provenance: {
    firmware: { name: 'OVMF_CODE.fd', sha256: 'a'.repeat(64) },
    variables: { name: 'OVMF_VARS.fd', sha256: 'b'.repeat(64) },
    drivers: [],
    application: { name: 'handover.efi', sha256: 'c'.repeat(64) },
    qemu: '7.2.22',
  },
  command: ['qemu-system-x86_64', '-M', 'pc', '-cpu', 'max,la57=off', '-append', 'two words'],
  architecture: 'x64',
  memoryMap: {
    descriptors: [
      {
        type: MemoryType.RuntimeServicesCode,
        physicalStart: 0x1000_0000,
        virtualStart: 0n,
        numberOfPages: 2,
        attribute: 0x8000_0000_0000_000fn,
      },
    ],
    address: 0x400_3000,
    key: 77,
    descriptorSize: 48,
    descriptorVersion: 1,
  },
  systemTable: 0x1000_0018,
  firmwareVendor: 'EDK II',
  firmwareRevision: 0x10000,
  configurationTable: { address: 0x1000_0100, entries: [] },
  runtimeServices: {
    address: 0x1000_0200,
    functions: Object.fromEntries(
      RUNTIME_SERVICES.map((name, index) => [name, 0x1000_1000 + index]),
    ) as Record<RuntimeServiceName, number>,
  },
  registers: {
    ...Object.fromEntries(
      ['RAX', 'RCX', 'RDX', 'RBX', 'RSP', 'RBP', 'RSI', 'RDI'].map((name) => [name, '0x1']),
    ),
    ...Object.fromEntries(Array.from({ length: 8 }, (_, index) => [`R${index + 8}`, '0x2'])),
    RIP: '0x4001103',
    RFL: '0x46',
    CR0: '0x80010033',
    CR2: '0x0',
    CR3: '0x2000000',
    CR4: '0x668',
    EFER: '0xd00',
    GDT: ['0x1f9dc000', '0x47'],
    IDT: ['0x1f455018', '0xfff'],
  },
  msrs: { IA32_PAT: 0x7_0406_0007_0406n },
  root: 0x200_0000,
  tables: [{ address: 0x200_0000, level: 4, linear: 0n, bytes: page(4) }],
  runtimePages: [
    { address: 0x1000_0000, bytes: Buffer.concat([TABLE_PAGE, page(2)]) },
    { address: 0x400_3000, bytes: page(3) },
  ],
  retainedPages: [{ address: 0x90_0000, bytes: page(9) }],
  flash: { address: 0xffe0_0000, contents: page(0xff) },
  devices: {
    cmos: Uint8Array.of(0x12, 0x34),
    pci: { '00:00.0': Uint8Array.of(0x86, 0x80) },
    powerManagementBase: 0xb000,
  },
}

let parent = ''

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'trapdoor-test-'))
})

afterEach(() => {
  rmSync(parent, { recursive: true, force: true })
})

test('a snapshot is read as it was written', async () => {
  const folder = join(parent, 'made/for/it')
  await writeSnapshot(folder, CONTENTS)
  expect(readObservedSnapshot(folder)).toMatchObject({
    name: 'it',
    origin: 'qemu-system-x86_64 -M pc -cpu max,la57=off -append two words',
    board: 'pc',
    la57: false,
    memoryMap: CONTENTS.memoryMap.descriptors,
    systemTable: CONTENTS.systemTable,
    flash: CONTENTS.flash,
    cpu: { rip: 0x400_1103n, cr3: 0x200_0000, efer: 0xd00 },
  })
  const { pages } = readObservedSnapshot(folder)
  const byAddress = new Map(pages.map((run) => [run.address, run.bytes]))
  expect(byAddress.get(0x1000_0000)).toEqual(new Uint8Array(Buffer.concat([TABLE_PAGE, page(2)])))
  expect(byAddress.get(0x400_3000)).toEqual(page(3))
  expect(byAddress.get(0x200_0000)).toEqual(page(4))
})

test('entries of a PAE root are without the accessed flags that QEMU alone sets there', async () => {
  const folder = join(parent, 'pae')
  const root = page(0)
  root.set([0x21, 0x20, 0, 2], 0x20)
  root.set([0x21, 0x30, 0, 2], 0x28)
  const table = page(0x61)
  await writeSnapshot(folder, {
    ...CONTENTS,
    architecture: 'ia32',
    registers: { ...CONTENTS.registers, CR3: '0x2000020', CR4: '0x660', EFER: '0x800' },
    tables: [
      { address: 0x200_0000, level: 3, linear: 0n, bytes: root },
      { address: 0x200_2000, level: 2, linear: 0n, bytes: table },
    ],
  })
  const { pages } = readObservedSnapshot(folder)
  const read = new Map(pages.map((run) => [run.address, run.bytes]))
  expect(read.get(0x200_0000)!.subarray(0x20, 0x30)).toEqual(
    Uint8Array.of(1, 0x20, 0, 2, 0, 0, 0, 0, 1, 0x30, 0, 2, 0, 0, 0, 0),
  )
  expect(read.get(0x200_2000)).toEqual(table)
})

test('what the readers of recordings do not know stands beside', async () => {
  const folder = join(parent, 'new')
  await writeSnapshot(folder, CONTENTS)
  const document = JSON.parse(readFileSync(join(folder, 'snapshot.json'), 'utf8')) as unknown
  expect(document).toMatchObject({
    format_version: 1,
    provenance: { firmware: { name: 'OVMF_CODE.fd' }, qemu: '7.2.22' },
    qemu_cmd: String.raw`qemu-system-x86_64 -M pc -cpu max\,la57=off -append two\ words`,
    memmap_key: 77,
    msrs: { IA32_PAT: '0x7040600070406' },
    devices: { cmos: '1234', pci: { '00:00.0': '8680' }, pm_base: '0xb000' },
    flash: { base: '0xffe00000', bytes: 4096 },
    files: { fw: { runs: [['0x900000', 1]] } },
  })
  expect(gunzipSync(readFileSync(join(folder, 'fw.pages.gz'))).every((byte) => byte === 9)).toBe(
    true,
  )
})

const CALL: WrittenCall = {
  name: 'phys/GetTime',
  service: 'GetTime',
  functionAddress: 0xffff_fffe_ff86_0b29n,
  args: [0x300_0000n, 0x300_0020n],
  memory: [{ address: 0x300_0800, bytes: Uint8Array.of(1, 2, 3) }],
  stack: 0x301_fe80n,
  status: (1n << 63n) | 14n,
  runtimeChanges: [{ address: 0x1000_0008, before: 0n, after: 2n ** 64n - 1n }],
  scratchChanges: [{ address: 0x300_0000, before: 5n, after: 0n }],
  devices: [{ kind: 'read', device: 'rtc', address: 0x71, value: 0x26, size: 1 }],
  counts: { instructions: 1184, distinct: 263, loads: 316, stores: 247, deviceAccesses: 1 },
  pages: [
    {
      page: 0xffff_fffe_ff86_0000n,
      physical: undefined,
      reads: 0,
      writes: 0,
      executions: 1184,
      device: undefined,
    },
    {
      page: 0xffe0_0000n,
      physical: 0xffe0_0000,
      reads: 1,
      writes: 2,
      executions: 0,
      device: 'system.flash1',
    },
  ],
  restored: false,
  restoredPages: undefined,
}

test('a recording is read as it was written', async () => {
  const folder = join(parent, 'recorded')
  const virtualMap = CONTENTS.memoryMap.descriptors.map((each) => ({
    ...each,
    virtualStart: 0xffff_fffe_ff80_0000n,
  }))
  const calls = [CALL, { ...CALL, name: 'svam/identity', restored: true, restoredPages: 3 }]
  await writeSnapshot(folder, {
    ...CONTENTS,
    recording: {
      registers: { ...CONTENTS.registers, CR3: '0x3020000' },
      root: 0x302_0000,
      tables: [{ address: 0x302_0000, level: 4, linear: 0n, bytes: page(5) }],
      virtualMap,
      descriptorSize: 48,
      caller: { begin: 0x400_1200, end: 0x400_1230 },
      scratch: { address: 0x300_0000, bytes: 0x2_0000 },
      stackTop: 0x301_ff00,
      calls,
      measured: { io: 'trace events' },
    },
  })
  const read = readRecordedCalls(folder)
  expect(read).toMatchObject({
    cpu: { cr3: 0x302_0000 },
    scratch: { address: 0x300_0000, bytes: 0x2_0000 },
    tables: [{ address: 0x302_0000, bytes: page(5) }],
  })
  expect(read.calls.map((call, index) => ({ ...calls[index], ...call }))).toEqual(calls)
  expect(read.calls).toHaveLength(2)
  const map: unknown = JSON.parse(readFileSync(join(folder, 'svam-map.json'), 'utf8'))
  expect(map).toEqual([
    {
      type: 5,
      name: 'RuntimeServicesCode',
      phys: '0x10000000',
      virt: '0xfffffffeff800000',
      pages: 2,
      attr: '0x800000000000000f',
    },
  ])
  const document = JSON.parse(
    gunzipSync(readFileSync(join(folder, 'vectors.json.gz'))).toString(),
  ) as { svam_map: string; measured: unknown; vectors: { restored_pages?: number }[] }
  expect(document.svam_map).toHaveLength(96)
  expect(document.measured).toEqual({ io: 'trace events' })
  expect(document.vectors.map((each) => each.restored_pages)).toEqual([undefined, 3])
})

test('an empty folder is taken, one with something in it and a file are not, and nothing is left', async () => {
  const empty = join(parent, 'empty')
  mkdirSync(empty)
  await checkSnapshotFolder(empty)
  await writeSnapshot(empty, CONTENTS)
  expect(existsSync(join(empty, 'snapshot.json'))).toBe(true)
  const file = join(parent, 'file')
  writeFileSync(file, 'mine')
  for (const taken of [empty, file]) {
    const refused = { code: 'SNAPSHOT_FOLDER_THERE', file: taken }
    await expect(writeSnapshot(taken, CONTENTS)).rejects.toMatchObject(refused)
    await expect(checkSnapshotFolder(taken)).rejects.toMatchObject(refused)
  }
  for (const impossible of [join(file, 'below'), '/proc/no/such/folder']) {
    const refused = { code: 'SNAPSHOT_UNWRITABLE' }
    await expect(writeSnapshot(impossible, CONTENTS)).rejects.toMatchObject(refused)
    await expect(checkSnapshotFolder(impossible)).rejects.toMatchObject(refused)
  }
  await checkSnapshotFolder(join(parent, 'not', 'yet'))
  expect(readdirSync(parent).toSorted()).toEqual(['empty', 'file'])
  expect(readFileSync(file, 'utf8')).toBe('mine')
})
