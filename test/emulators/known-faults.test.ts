import { PageFaultBit } from '@trapdoor/core'
import { expect, test } from 'vitest'

import type { Access, Case, Controls } from './cases/case.ts'
import { FOUR_LEVEL, PAE, type TableLayout } from './cases/table-layout.ts'
import type { PathStep } from './cases/table-set.ts'
import { Table } from './cases/table.ts'
import { COMPLETED, CR2_BEFORE } from './guest/layout.ts'
import { applyFaults, KNOWN_FAULTS } from './known-faults.ts'
import type { EmulatorName } from './machines/emulator.ts'
import type { Outcome } from './model.ts'

const { Present, Write, User, Reserved, Instruction, ProtectionKey } = PageFaultBit

const CONTROLS: Controls = {
  wp: true,
  smep: false,
  smap: false,
  pge: false,
  pke: true,
  pks: true,
  nxe: true,
  ac: false,
  pkru: 0,
  pkrs: 0,
}
const READ: Access = { verb: 'read', user: false, stack: false }
const USER_READ: Access = { ...READ, user: true }
const WRITE: Access = { ...READ, verb: 'write' }
const KEY_1 = 1n << 59n
/** Access disable and write disable of key 1. */
const AD_1 = 4
const WD_1 = 8

interface Subject {
  readonly layout?: TableLayout
  readonly access?: Access
  readonly controls?: Partial<Controls>
  /** From the root down. */
  readonly entries: readonly bigint[]
}

function caseOf({ layout = FOUR_LEVEL, access = READ, controls = {}, entries }: Subject): Case {
  const path = entries.map((entry, at): PathStep => {
    const level = layout.levels.length - at
    return { level, table: new Table(0x4000_0000 + at * 4096, level, 8), index: 0, entry }
  })
  return {
    layout,
    root: path[0]!.table,
    path,
    controls: { ...CONTROLS, ...controls },
    access,
    address: 0x1234n,
    value: 0x7bad_0000_0000_0001n,
  }
}

function pathOf({ path }: Case): number[] {
  const lows = path.map(({ entry }) => Number(entry & 0xffff_ffffn))
  return [...lows, 0, 0, 0, 0, 0].slice(0, 5)
}

function completed(subject: Case): Outcome {
  const data = 0x1122_3344_5566_7788n
  return {
    vector: COMPLETED,
    errorCode: 0,
    cr2: CR2_BEFORE,
    rax: data,
    physical: 0x8000_0000,
    before: data,
    after: data,
    path: pathOf(subject),
  }
}

function faulted(subject: Case, errorCode: number): Outcome {
  return {
    vector: 14,
    errorCode,
    cr2: subject.address,
    rax: subject.value,
    physical: undefined,
    before: 0n,
    after: 0n,
    path: pathOf(subject),
  }
}

/** What an emulator should make of a case, and why. Nothing runs again unless `rerun` is given. */
function expectOf(
  emulator: EmulatorName,
  subject: Case,
  ours: Outcome,
  rerun: (changes: Partial<Case>) => Outcome = () => ours,
): { ids: string[]; outcome: Outcome } {
  const faults = KNOWN_FAULTS.filter((fault) => fault.emulator === emulator)
  const applied = applyFaults(faults, { subject, ours, rerun })
  return { ids: applied.faults.map(({ id }) => id), outcome: applied.outcome }
}

const PAGE_4K = { entries: [0x67n, 0x67n, 0x67n, 0x67n] }

test('every known fault says where its source is and what the manual says', () => {
  const ids = KNOWN_FAULTS.map(({ id }) => id)
  expect(new Set(ids).size).toBe(ids.length)
  const unproven = KNOWN_FAULTS.filter(
    ({ source, manual }) => !/\.(c|cc), \w+\(\)/.test(source) || !/^SDM Vol\. 3, \d/.test(manual),
  )
  expect(unproven).toEqual([])
})

test.each(['qemu', 'bochs'] as const)(
  '%s: an access that completes, or faults plainly, is excused nothing',
  (emulator) => {
    const subject = caseOf(PAGE_4K)
    const outcomes = [
      completed(subject),
      faulted(subject, 0),
      faulted(subject, Present),
      faulted(subject, Present | Write),
      faulted(subject, Present | User | Instruction),
    ]
    for (const ours of outcomes) {
      expect(expectOf(emulator, subject, ours)).toEqual({ ids: [], outcome: ours })
    }
  },
)

test('QEMU has P clear at reserved bits, and changes no other bit', () => {
  const subject = caseOf(PAGE_4K)
  const ours = faulted(subject, Present | Reserved | User | Write)
  expect(expectOf('qemu', subject, ours)).toEqual({
    ids: ['qemu-rsvd-without-p'],
    outcome: { ...ours, errorCode: Reserved | User | Write },
  })
  expect(expectOf('bochs', subject, ours)).toEqual({ ids: [], outcome: ours })
})

test('QEMU marks the entry of a 1 GiB page accessed though the access faults', () => {
  const subject = caseOf({ entries: [0x67n, 0x4000_0083n] })
  const ours = faulted(subject, Present | User)
  expect(expectOf('qemu', subject, ours)).toEqual({
    ids: ['qemu-accessed-1g-page'],
    outcome: { ...ours, path: [0x67, 0x4000_00a3, 0, 0, 0] },
  })
})

test.each<[string, readonly bigint[], Partial<Controls>]>([
  ['a 2 MiB page', [0x67n, 0x67n, 0x4000_0083n], {}],
  ['a 4 KiB page', [0x67n, 0x67n, 0x67n, 0x3n], {}],
  ['an entry that is not present', [0x67n, 0x4000_0082n], {}],
  ['a 1 GiB page that is marked', [0x67n, 0x4000_00a3n], {}],
  ['an address above MAXPHYADDR', [0x67n, 0x100_4000_0083n], {}],
  ['NX without EFER.NXE', [0x67n, 0x8000_0000_4000_0083n], { nxe: false }],
  ['a reserved bit above', [0xe7n, 0x4000_0083n], {}],
])('QEMU marks no other entry accessed: not %s', (_, entries, controls) => {
  const subject = caseOf({ entries, controls })
  const ours = faulted(subject, Present | User)
  expect(expectOf('qemu', subject, ours)).toEqual({ ids: [], outcome: ours })
})

test('QEMU marks PDPTEs accessed in PAE paging alone, and present ones alone', () => {
  const subject = caseOf({ layout: PAE, entries: [0x4000_1001n, 0x67n, 0x67n] })
  const ours = completed(subject)
  expect(expectOf('qemu', subject, ours)).toEqual({
    ids: ['qemu-accessed-pdpte'],
    outcome: { ...ours, path: [0x4000_1021, 0x67, 0x67, 0, 0] },
  })
  const absent = caseOf({ layout: PAE, entries: [0x4000_1000n] })
  expect(expectOf('qemu', absent, faulted(absent, 0)).ids).toEqual([])
})

test('QEMU raises #GP where the stack is not canonical, and #GP stays #GP', () => {
  const subject = caseOf(PAGE_4K)
  const ours = { ...faulted(subject, 0), vector: 12, cr2: CR2_BEFORE }
  expect(expectOf('qemu', subject, ours)).toEqual({
    ids: ['qemu-stack-non-canonical'],
    outcome: { ...ours, vector: 13 },
  })
  expect(expectOf('qemu', subject, { ...ours, vector: 13 }).ids).toEqual([])
  expect(expectOf('bochs', subject, ours).ids).toEqual([])
})

test("QEMU does not look at the key when a user is refused a supervisor's page", () => {
  const supervisorPage = { entries: [0x67n, 0x67n, 0x63n, 0x67n | KEY_1], access: USER_READ }
  const subject = caseOf(supervisorPage)
  const ours = faulted(subject, Present | User | ProtectionKey)
  expect(expectOf('qemu', subject, ours)).toEqual({
    ids: ['qemu-key-of-refused-user'],
    outcome: { ...ours, errorCode: Present | User },
  })
  const userPage = caseOf({ ...supervisorPage, entries: PAGE_4K.entries })
  expect(expectOf('qemu', userPage, ours).ids).toEqual([])
  const supervisor = caseOf({ ...supervisorPage, access: READ })
  expect(expectOf('qemu', supervisor, ours).ids).toEqual([])
})

test("Bochs lets a supervisor pass PKRU's access-disable bit, not its write-disable bit", () => {
  const entries = [0x67n, 0x67n, 0x67n, 0x67n | KEY_1]
  const subject = caseOf({ entries, access: WRITE, controls: { pkru: AD_1 | WD_1 } })
  const ours = faulted(subject, Present | Write | ProtectionKey)
  const changes: Partial<Case>[] = []
  const theirs = completed(subject)
  const found = expectOf('bochs', subject, ours, (change) => {
    changes.push(change)
    return theirs
  })
  expect(found).toEqual({ ids: ['bochs-pkru-of-supervisor-access'], outcome: theirs })
  expect(changes).toEqual([{ controls: { ...subject.controls, pkru: WD_1 } }])
  const user = caseOf({ entries, access: USER_READ, controls: { pkru: AD_1 } })
  expect(expectOf('bochs', user, faulted(user, Present | User | ProtectionKey)).ids).toEqual([])
})

test('Bochs applies PKRU to supervisor pages', () => {
  const entries = [0x67n, 0x67n, 0x63n, 0x67n | KEY_1]
  const subject = caseOf({ entries, access: WRITE, controls: { pkru: WD_1 } })
  expect(expectOf('bochs', subject, completed(subject))).toEqual({
    ids: ['bochs-pkru-of-supervisor-page'],
    outcome: faulted(subject, Present | Write | ProtectionKey),
  })
})

test.each<[string, Subject]>([
  ['without CR4.PKE', { ...PAGE_4K, access: WRITE, controls: { pkru: WD_1, pke: false } }],
  ['without CR0.WP', { ...PAGE_4K, access: WRITE, controls: { pkru: WD_1, wp: false } }],
  ['to a read', { ...PAGE_4K, access: READ, controls: { pkru: WD_1 | AD_1 } }],
  [
    'to code',
    { ...PAGE_4K, access: { ...READ, verb: 'execute' }, controls: { pkru: WD_1 | AD_1 } },
  ],
  ['with another key', { ...PAGE_4K, access: WRITE, controls: { pkru: 0x33 } }],
  [
    'in PAE paging',
    { layout: PAE, entries: [0x1n, 0x63n, 0x67n], access: WRITE, controls: { pkru: WD_1 } },
  ],
])('Bochs does not apply PKRU to supervisor pages %s', (_, { entries, ...others }) => {
  const [page = 0n, above = 0n, ...rest] = entries.toReversed()
  const supervisorEntries = [...rest.toReversed(), above & ~4n, page | KEY_1]
  const subject = caseOf({ ...others, entries: supervisorEntries })
  expect(expectOf('bochs', subject, completed(subject)).ids).toEqual([])
})
