import { Rights } from '../paging/walk.ts'
import { type Access, PageFaultBit } from './exception.ts'

/**
 * Kinds of access as the permission table is indexed: supervisor read, write, execute; plus 3 the same of a user; plus 6 the reads and writes that a processor makes
 * of itself to its descriptor tables and stacks, whatever the privilege level (implicit supervisor accesses, SDM Vol. 3, 4.6).
 */
export const AccessKind = {
  Read: 0,
  Write: 1,
  Execute: 2,
  UserOffset: 3,
  ImplicitOffset: 6,
} as const

/** Kinds that write, as bits: 1, 4 and 7. */
export const WRITE_KINDS = 0x92

/** The control bits that decide, beside the page's own rights (SDM Vol. 3, 4.6.1 and 4.6.2). */
export interface PermissionControls {
  /** CR0.WP. */
  readonly writeProtect: boolean
  /** EFER.NXE, in a mode whose entries have an NX bit. */
  readonly noExecute: boolean
  /** CR4.SMEP. */
  readonly smep: boolean
  /** CR4.SMAP. */
  readonly smap: boolean
  /** RFLAGS.AC. */
  readonly alignmentCheck: boolean
  /** PKRU where CR4.PKE lets it count, else 0: bit 2i disables access to pages with key i, bit 2i+1 disables writes. */
  readonly userKeys: number
  /** IA32_PKRS where CR4.PKS lets it count, else 0. */
  readonly supervisorKeys: number
}

/** Whether two say the same. */
export function sameControls(one: PermissionControls, other: PermissionControls): boolean {
  return (
    one.writeProtect === other.writeProtect &&
    one.noExecute === other.noExecute &&
    one.smep === other.smep &&
    one.smap === other.smap &&
    one.alignmentCheck === other.alignmentCheck &&
    one.userKeys === other.userKeys &&
    one.supervisorKeys === other.supervisorKeys
  )
}

/** Words of {@link permissionTable} for one kind of access: rights have seven bits, a word 32. */
export const PERMISSION_WORDS = 4
const KINDS = 8

/** Tables that were computed before, by control bits and keys; the oldest go first. */
const TABLES: Map<string, Int32Array> = new Map()
const CAPACITY = 1024

/**
 * Four words for each kind of access; bit n of the 128 says whether rights n (see {@link Rights}) allow it, so that an access costs one lookup.
 * Not to be written to.
 */
export function permissionTable(controls: PermissionControls): Int32Array {
  const bits =
    (controls.writeProtect ? 1 : 0) |
    (controls.noExecute ? 2 : 0) |
    (controls.smep ? 4 : 0) |
    (controls.smap ? 8 : 0) |
    (controls.alignmentCheck ? 16 : 0)
  const key = `${bits} ${controls.userKeys} ${controls.supervisorKeys}`
  let table = TABLES.get(key)
  if (table === undefined) {
    table = computePermissions(controls)
    for (const oldest of TABLES.keys()) {
      if (TABLES.size < CAPACITY) break
      TABLES.delete(oldest)
    }
    TABLES.set(key, table)
  }
  return table
}

function computePermissions(controls: PermissionControls): Int32Array {
  const table = new Int32Array(KINDS * PERMISSION_WORDS)
  for (let kind = 0; kind < KINDS; kind++) {
    for (let rights = 0; rights < 128; rights++) {
      if (allowsByRights(controls, kind, rights) && !violatesKey(controls, kind, rights)) {
        table[kind * PERMISSION_WORDS + (rights >>> 5)]! |= 1 << rights
      }
    }
  }
  return table
}

/** SDM Vol. 3, 4.6.1, protection keys apart. */
function allowsByRights(controls: PermissionControls, kind: number, rights: number): boolean {
  const isWritable = (rights & Rights.Writable) !== 0
  const isUser = (rights & Rights.User) !== 0
  const isExecutable = (rights & Rights.NoExecute) === 0 || !controls.noExecute
  const isImplicit = kind >= AccessKind.ImplicitOffset
  const passesSmap = !isUser || !controls.smap || (controls.alignmentCheck && !isImplicit)
  switch (kind) {
    case AccessKind.Execute:
      return isExecutable && !(isUser && controls.smep)
    case AccessKind.UserOffset + AccessKind.Read:
      return isUser
    case AccessKind.UserOffset + AccessKind.Write:
      return isUser && isWritable
    case AccessKind.UserOffset + AccessKind.Execute:
      return isUser && isExecutable
    default:
      return passesSmap && (!isWrite(kind) || isWritable || !controls.writeProtect)
  }
}

/**
 * Whether the protection key in `rights` forbids a data access, whatever the other rights say (SDM Vol. 3, 4.6.2): WD stops writes with CR0.WP, and
 * a user's writes to user pages without it too.
 */
function violatesKey(controls: PermissionControls, kind: number, rights: number): boolean {
  if (isExecute(kind)) return false
  const isUserPage = (rights & Rights.User) !== 0
  const keys = isUserPage ? controls.userKeys : controls.supervisorKeys
  const disable = keys >>> (2 * (rights >>> Rights.KeyShift))
  if ((disable & 1) !== 0) return true
  return (
    (disable & 2) !== 0 &&
    isWrite(kind) &&
    (controls.writeProtect || (isUserPage && isUserKind(kind)))
  )
}

function isUserKind(kind: number): boolean {
  return kind >= AccessKind.UserOffset && kind < AccessKind.ImplicitOffset
}

function isWrite(kind: number): boolean {
  return ((WRITE_KINDS >>> kind) & 1) !== 0
}

function isExecute(kind: number): boolean {
  return kind % 3 === AccessKind.Execute
}

/** The name of an access kind's verb. */
export function accessOf(kind: number): Access {
  return isExecute(kind) ? 'execute' : isWrite(kind) ? 'write' : 'read'
}

/** The error code of a page fault at a page that is not there, or at an entry with a reserved bit (SDM Vol. 3, 4.7): I is set only where NXE or SMEP is on. */
export function pageFaultCode(
  kind: number,
  present: boolean,
  reserved: boolean,
  controls: PermissionControls,
): number {
  return (
    (present ? PageFaultBit.Present : 0) |
    (isWrite(kind) ? PageFaultBit.Write : 0) |
    (isUserKind(kind) ? PageFaultBit.User : 0) |
    (reserved ? PageFaultBit.Reserved : 0) |
    (isExecute(kind) && (controls.noExecute || controls.smep) ? PageFaultBit.Instruction : 0)
  )
}

/** The error code of a page fault at a page whose rights refuse: PK tells that its protection key does, alone or with others. */
export function violationCode(kind: number, rights: number, controls: PermissionControls): number {
  const key = violatesKey(controls, kind, rights) ? PageFaultBit.ProtectionKey : 0
  return pageFaultCode(kind, true, false, controls) | key
}
