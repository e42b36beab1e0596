import { Rights } from '../paging/walk.ts'
import { type Access, PageFaultBit } from './exception.ts'

/** Kinds of access as the permission table is indexed: 0 to 2 supervisor, 3 to 5 user; read, write, execute. */
export const AccessKind = { Read: 0, Write: 1, Execute: 2, UserOffset: 3 } as const

/** The control bits that decide, beside the page's own rights (SDM Vol. 3, 4.6.1). */
export interface PermissionControls {
  /** CR0.WP. */
  readonly writeProtect: boolean
  /** EFER.NXE. */
  readonly noExecute: boolean
  /** CR4.SMEP. */
  readonly smep: boolean
  /** CR4.SMAP. */
  readonly smap: boolean
  /** RFLAGS.AC. */
  readonly alignmentCheck: boolean
}

/** Tables that were computed before: there are as many as control bits combine. */
const TABLES: Map<number, Uint8Array> = new Map()

/**
 * For each kind of access a byte whose bit n says whether rights n (see {@link Rights}) allow it, so that an access costs one lookup. Not to be written to.
 */
export function permissionTable(controls: PermissionControls): Uint8Array {
  const key =
    (controls.writeProtect ? 1 : 0) |
    (controls.noExecute ? 2 : 0) |
    (controls.smep ? 4 : 0) |
    (controls.smap ? 8 : 0) |
    (controls.alignmentCheck ? 16 : 0)
  let table = TABLES.get(key)
  if (table === undefined) {
    table = computePermissions(controls)
    TABLES.set(key, table)
  }
  return table
}

function computePermissions(controls: PermissionControls): Uint8Array {
  const table = new Uint8Array(6)
  for (let rights = 0; rights < 8; rights++) {
    const writable = (rights & Rights.Writable) !== 0
    const user = (rights & Rights.User) !== 0
    const executable = (rights & Rights.NoExecute) === 0 || !controls.noExecute
    const smapBlocks = user && controls.smap && !controls.alignmentCheck
    const allowed = [
      !smapBlocks,
      (writable || !controls.writeProtect) && !smapBlocks,
      executable && !(user && controls.smep),
      user,
      user && writable,
      user && executable,
    ]
    for (const [kind, allow] of allowed.entries()) {
      if (allow) table[kind]! |= 1 << rights
    }
  }
  return table
}

/** The name of an access kind's verb. */
export function accessOf(kind: number): Access {
  const verb = kind % AccessKind.UserOffset
  return verb === AccessKind.Read ? 'read' : verb === AccessKind.Write ? 'write' : 'execute'
}

/** The error code of a page fault (SDM Vol. 3, 4.7): I is set only where NXE or SMEP is on. */
export function pageFaultCode(
  kind: number,
  present: boolean,
  reserved: boolean,
  controls: PermissionControls,
): number {
  const verb = kind % AccessKind.UserOffset
  return (
    (present ? PageFaultBit.Present : 0) |
    (verb === AccessKind.Write ? PageFaultBit.Write : 0) |
    (kind >= AccessKind.UserOffset ? PageFaultBit.User : 0) |
    (reserved ? PageFaultBit.Reserved : 0) |
    (verb === AccessKind.Execute && (controls.noExecute || controls.smep)
      ? PageFaultBit.Instruction
      : 0)
  )
}
