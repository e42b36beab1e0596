import { PageFaultBit } from '@trapdoor/core'

import type { Case } from './cases/case.ts'
import type { PathStep } from './cases/table-set.ts'
import type { EmulatorName } from './machines/emulator.ts'
import type { Outcome } from './model.ts'

/** What a known fault may look at. */
export interface FaultContext {
  readonly subject: Case
  /** What our machine makes of the case, with the faults before this one in the list. */
  readonly ours: Outcome
  /** What our machine makes of the case with these changes. */
  readonly rerun: (changes: Partial<Case>) => Outcome
}

/** A way in which an emulator is known to differ from the manuals. */
export interface KnownFault {
  readonly id: string
  readonly emulator: EmulatorName
  /** What it does. */
  readonly fault: string
  /** Where its source does so. */
  readonly source: string
  /** What the manual says instead. */
  readonly manual: string
  /** What comes out of the case because of the fault; undefined where the fault does not show. Nothing else is excused, nor that the fault stays away. */
  readonly expected: (context: FaultContext) => Outcome | undefined
}

const STACK_FAULT = 12
const GENERAL_PROTECTION = 13
const PAGE_FAULT = 14

const PRESENT = 0x1n
const USER = 0x4n
const ACCESSED = 0x20
const PAGE_SIZE = 0x80n
const NO_EXECUTE = 1n << 63n
/** Address bits above MAXPHYADDR, which is 40 in both emulators. */
const BEYOND_PHYSICAL = 0xf_ff00_0000_0000n

/** All that are known, in QEMU 7.2 and Bochs 2.7. */
export const KNOWN_FAULTS: readonly KnownFault[] = [
  {
    id: 'qemu-rsvd-without-p',
    emulator: 'qemu',
    fault: 'a page fault for a reserved bit has P clear in its error code',
    source: 'target/i386/tcg/sysemu/excp_helper.c, mmu_translate(): do_fault_rsvd',
    manual:
      'SDM Vol. 3, 4.7: RSVD can be set only if P is, as reserved bits of an entry that is not present are not checked',
    expected: ({ ours }) =>
      ours.vector === PAGE_FAULT && (ours.errorCode & PageFaultBit.Reserved) !== 0
        ? { ...ours, errorCode: ours.errorCode & ~PageFaultBit.Present }
        : undefined,
  },
  {
    id: 'qemu-accessed-1g-page',
    emulator: 'qemu',
    fault:
      'the entry of a 1 GiB page is marked accessed before the rights and the reserved bits 29 to 13 are looked at',
    source: 'target/i386/tcg/sysemu/excp_helper.c, mmu_translate(): restart_3_lma',
    manual:
      'SDM Vol. 3, 4.8: the accessed flag is set in entries that a translation uses; this one ends in a fault, and so it is for pages of other sizes',
    expected: ({ subject, ours }) => {
      const { path } = subject
      const last = path.length - 1
      if (ours.vector !== PAGE_FAULT || !endsAtGibibytePage(subject)) return undefined
      if ((ours.path[last]! & ACCESSED) !== 0) return undefined
      return { ...ours, path: ours.path.with(last, (ours.path[last]! | ACCESSED) >>> 0) }
    },
  },
  {
    id: 'qemu-accessed-pdpte',
    emulator: 'qemu',
    fault: 'in PAE paging, a page-directory-pointer-table entry gets an accessed flag',
    source: 'target/i386/tcg/sysemu/excp_helper.c, mmu_translate(): restart_3_nolma',
    manual:
      'SDM Vol. 3, 4.4.1: the four entries are registers, loaded with CR3; bit 5 of an entry is reserved',
    expected: ({ subject, ours }) => {
      const [first] = subject.path
      if (subject.layout.name !== 'PAE' || (first!.entry & PRESENT) === 0n) return undefined
      return { ...ours, path: ours.path.with(0, (ours.path[0]! | ACCESSED) >>> 0) }
    },
  },
  {
    id: 'qemu-stack-non-canonical',
    emulator: 'qemu',
    fault: 'an access to the stack at an address that is not canonical raises #GP',
    source: 'target/i386/tcg/sysemu/excp_helper.c, get_physical_address()',
    manual: 'SDM Vol. 3, 6.15, interrupt 12: it raises #SS',
    expected: ({ ours }) =>
      ours.vector === STACK_FAULT ? { ...ours, vector: GENERAL_PROTECTION } : undefined,
  },
  {
    id: 'qemu-key-of-refused-user',
    emulator: 'qemu',
    fault:
      "a user's access to a supervisor page is refused before the page's key is looked at: PK stays clear",
    source: 'target/i386/tcg/sysemu/excp_helper.c, mmu_translate(): do_check_protect_pse36',
    manual:
      'SDM Vol. 3, 4.7: PK tells of the key of the page and the access, whatever else refuses it',
    expected: ({ subject, ours }) =>
      subject.access.user &&
      !isUserPage(subject) &&
      ours.vector === PAGE_FAULT &&
      (ours.errorCode & PageFaultBit.ProtectionKey) !== 0
        ? { ...ours, errorCode: ours.errorCode & ~PageFaultBit.ProtectionKey }
        : undefined,
  },
  {
    id: 'bochs-pkru-of-supervisor-access',
    emulator: 'bochs',
    fault: "PKRU's access-disable bits do not stop a supervisor's access to a user page",
    source: 'cpu/paging.cc, translate_linear_long_mode()',
    manual:
      'SDM Vol. 3, 4.6.2: where AD is set, no data access to a user-mode address with the key is permitted',
    expected: ({ subject, ours, rerun }) => {
      const { access, controls } = subject
      if (access.user || !isUserPage(subject) || !hasKeyFault(ours)) return undefined
      // Bit 2i of 32 is AD of key i.
      return rerun({ controls: { ...controls, pkru: controls.pkru & 0xaaaa_aaaa } })
    },
  },
  {
    id: 'bochs-pkru-of-supervisor-page',
    emulator: 'bochs',
    fault: 'PKRU is applied to supervisor pages too',
    source: 'cpu/paging.cc, translate_linear_long_mode()',
    manual: 'SDM Vol. 3, 4.6.2: PKRU is for user-mode addresses',
    expected: ({ subject, ours }) => {
      if (isUserPage(subject) || !isPageFound(ours) || !pkruRefuses(subject)) return undefined
      const { user, verb } = subject.access
      return {
        vector: PAGE_FAULT,
        errorCode:
          PageFaultBit.Present |
          PageFaultBit.ProtectionKey |
          (verb === 'write' ? PageFaultBit.Write : 0) |
          (user ? PageFaultBit.User : 0),
        cr2: subject.address,
        rax: subject.value,
        physical: undefined,
        before: 0n,
        after: 0n,
        path: ours.path.map((_, at) => (at < subject.path.length ? lowHalf(subject.path[at]!) : 0)),
      }
    },
  },
]

/** What an emulator with these faults should make of a case, and which of them show in it. */
export function applyFaults(
  faults: readonly KnownFault[],
  context: FaultContext,
): { outcome: Outcome; faults: KnownFault[] } {
  let outcome = context.ours
  const shown: KnownFault[] = []
  for (const fault of faults) {
    const expected = fault.expected({ ...context, ours: outcome })
    if (expected === undefined) continue
    outcome = expected
    shown.push(fault)
  }
  return { outcome, faults: shown }
}

function isAddressRefused({ vector }: Outcome): boolean {
  return vector === GENERAL_PROTECTION || vector === STACK_FAULT
}

function hasKeyFault({ vector, errorCode }: Outcome): boolean {
  return vector === PAGE_FAULT && (errorCode & PageFaultBit.ProtectionKey) !== 0
}

/** Whether the walk ended at a page, whatever became of the access. */
function isPageFound(ours: Outcome): boolean {
  if (isAddressRefused(ours)) return false
  const reached = PageFaultBit.Present | PageFaultBit.Reserved
  return ours.vector !== PAGE_FAULT || (ours.errorCode & reached) === PageFaultBit.Present
}

/** Whether a user may reach the page, by every entry that has rights: the PDPTEs of PAE paging have none. */
function isUserPage({ layout, path }: Case): boolean {
  return path.every(
    ({ level, entry }) => (layout.name === 'PAE' && level === 3) || (entry & USER) !== 0n,
  )
}

/** Whether the page's key in PKRU refuses the access, as Bochs asks: a supervisor's only by WD. */
function pkruRefuses({ layout, access, controls, path }: Case): boolean {
  if (!layout.longMode || !controls.pke || access.verb === 'execute') return false
  const rights = controls.pkru >>> (2 * Number((path.at(-1)!.entry >> 59n) & 0xfn))
  if (access.user && (rights & 1) !== 0) return true
  return (rights & 2) !== 0 && access.verb === 'write' && (access.user || controls.wp)
}

/** Whether the walk comes to an entry of level 3 that maps a page, with no fault before and no reserved bit but those of a large page. */
function endsAtGibibytePage({ path, controls }: Case): boolean {
  const reserved = BEYOND_PHYSICAL | (controls.nxe ? 0n : NO_EXECUTE)
  const looked = reserved | PRESENT | PAGE_SIZE
  const wanted = (level: number) => (level === 3 ? PRESENT | PAGE_SIZE : PRESENT)
  return (
    path.at(-1)!.level === 3 && path.every(({ level, entry }) => (entry & looked) === wanted(level))
  )
}

function lowHalf({ entry }: PathStep): number {
  return Number(BigInt.asUintN(32, entry))
}
