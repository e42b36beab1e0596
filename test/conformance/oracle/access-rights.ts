/**
 * Whether a linear address with a translation may be accessed (SDM Vol. 3, 4.6) and what the page fault's error code says if not
 * (4.7), each rule in the manual's words: user-mode and supervisor-mode accesses to user-mode and supervisor-mode addresses.
 */

/** Bits of an access. Without any it is an explicit data read in supervisor mode. */
export const AccessBit: {
  readonly Write: 1
  readonly Fetch: 2
  readonly User: 4
  readonly Implicit: 8
} = { Write: 1, Fetch: 2, User: 4, Implicit: 8 }

/** Every kind of access there is: reads, writes and fetches in both modes, and the processor's own reads and writes. */
export const ACCESSES: readonly number[] = [0, 1, 2, 4, 5, 6, 8, 9]

/** Bits of the error code (4.7, figure 4-12). */
export const ErrorBit: {
  readonly P: 1
  readonly WR: 2
  readonly US: 4
  readonly RSVD: 8
  readonly ID: 16
  readonly PK: 32
} = { P: 1, WR: 2, US: 4, RSVD: 8, ID: 16, PK: 32 }

/** The control bits that access rights depend on. */
export interface AccessControls {
  /** CR0.WP. */
  readonly writeProtect: boolean
  /** IA32_EFER.NXE, in a paging mode that has the XD flag (CR4.PAE = 1). */
  readonly executeDisable: boolean
  /** CR4.SMEP. */
  readonly smep: boolean
  /** CR4.SMAP. */
  readonly smap: boolean
  /** EFLAGS.AC. */
  readonly alignmentCheck: boolean
  /** PKRU where CR4.PKE = 1 and 4-level or 5-level paging is in use, else undefined. */
  readonly userKeys: number | undefined
  /** IA32_PKRS where CR4.PKS = 1 and 4-level or 5-level paging is in use, else undefined. */
  readonly supervisorKeys: number | undefined
}

/** What the entries that control a translation say together. */
export interface PageRights {
  /** R/W is 1 in every one. */
  readonly writable: boolean
  /** U/S is 1 in every one: the address is a user-mode address. */
  readonly userAddress: boolean
  /** XD is 0 in every one. */
  readonly executable: boolean
  /** Bits 62 to 59 of the entry that maps the page. */
  readonly key: number
}

/** 4.6.2: whether the key of an address denies a data access to it. */
export function keyDenies(controls: AccessControls, access: number, page: PageRights): boolean {
  if ((access & AccessBit.Fetch) !== 0) return false
  const register = page.userAddress ? controls.userKeys : controls.supervisorKeys
  if (register === undefined) return false
  const accessDisable = (register >>> (2 * page.key)) & 1
  const writeDisable = (register >>> (2 * page.key + 1)) & 1
  if (accessDisable === 1) return true
  if (writeDisable === 0 || (access & AccessBit.Write) === 0) return false
  // A user-mode write to a user-mode address is denied whatever CR0.WP; IA32_PKRS knows only the other case.
  const userWrite = page.userAddress && (access & AccessBit.User) !== 0
  return userWrite || controls.writeProtect
}

/** 4.6.1: whether the access rights permit the access, its key left aside. */
export function rightsPermit(controls: AccessControls, access: number, page: PageRights): boolean {
  const write = (access & AccessBit.Write) !== 0
  const fetch = (access & AccessBit.Fetch) !== 0
  const mayFetch = !controls.executeDisable || page.executable
  if ((access & AccessBit.User) !== 0) {
    if (!page.userAddress) return false
    if (fetch) return mayFetch
    return !write || page.writable
  }
  if (fetch) return mayFetch && !(page.userAddress && controls.smep)
  if (page.userAddress && controls.smap) {
    const explicit = (access & AccessBit.Implicit) === 0
    if (!explicit || !controls.alignmentCheck) return false
  }
  return !write || page.writable || !controls.writeProtect
}

/** 4.7: the bits that describe the access, which do not depend on why it faults. */
export function accessErrorBits(controls: AccessControls, access: number): number {
  let code = 0
  if ((access & AccessBit.Write) !== 0) code |= ErrorBit.WR
  if ((access & AccessBit.User) !== 0) code |= ErrorBit.US
  if ((access & AccessBit.Fetch) !== 0 && (controls.smep || controls.executeDisable))
    code |= ErrorBit.ID
  return code
}
