/**
 * 4-level paging as the Intel SDM describes it (Vol. 3, chapter 4, edition of June 2023), written from the text to judge core
 * by: 64-bit arithmetic on a map of bytes, nothing shared with the sources, no thought given to speed.
 */

/** Physical memory: the bytes that were written; all others are 0. */
export type ByteMap = Map<bigint, number>

/** What the translation of an address depends on, beside memory. */
export interface SdmProcessor {
  readonly cr3: bigint
  /** CR0.WP */
  readonly wp: boolean
  /** IA32_EFER.NXE */
  readonly nxe: boolean
  /** CR4.SMEP */
  readonly smep: boolean
  /** CR4.SMAP */
  readonly smap: boolean
  /** EFLAGS.AC */
  readonly ac: boolean
  /** CPUID.80000008H:EAX[7:0] */
  readonly maxPhyAddr: number
  /** CPUID.80000001H:EDX.Page1GB */
  readonly page1gb: boolean
}

export interface SdmAccess {
  readonly linear: bigint
  readonly kind: 'read' | 'write' | 'execute'
  /** CPL = 3: a user-mode access; else a supervisor-mode access. */
  readonly user: boolean
}

export type SdmOutcome =
  | { readonly result: 'physical'; readonly physical: bigint }
  | { readonly result: '#PF'; readonly errorCode: number }
  | { readonly result: '#GP' }

/** What the paging structures alone say of an address (4.5.4). */
export type SdmWalk =
  | { readonly end: 'not-present' | 'reserved-bit' }
  | {
      readonly end: 'page'
      readonly physical: bigint
      readonly pageSize: bigint
      /** Addresses of the entries that were used, the one that maps the page last. */
      readonly entries: readonly bigint[]
      readonly writable: boolean
      readonly userMode: boolean
      readonly executeDisable: boolean
      readonly global: boolean
      /** 4*PAT + 2*PCD + PWT (4.9.2). */
      readonly patIndex: number
    }

export function readQuad(memory: ByteMap, address: bigint): bigint {
  let value = 0n
  for (let byte = 7n; byte >= 0n; byte--) {
    value = (value << 8n) | BigInt(memory.get(address + byte) ?? 0)
  }
  return value
}

export function writeQuad(memory: ByteMap, address: bigint, value: bigint): void {
  for (let byte = 0n; byte < 8n; byte++) {
    memory.set(address + byte, Number((value >> (byte * 8n)) & 0xffn))
  }
}

/** Vol. 1, 3.3.7.1: bits 63 to 48 equal bit 47. */
function isCanonicalAddress(linear: bigint): boolean {
  const top = bits(linear, 63, 47)
  return top === 0n || top === 0x1_ffffn
}

/** The bits of a value from `high` down to `low`. */
function bits(value: bigint, high: number, low: number): bigint {
  return (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n)
}

function bit(value: bigint, position: number): boolean {
  return bits(value, position, position) === 1n
}

const STRUCTURES = [
  { name: 'PML4E', selectedBy: [47, 39] },
  { name: 'PDPTE', selectedBy: [38, 30] },
  { name: 'PDE', selectedBy: [29, 21] },
  { name: 'PTE', selectedBy: [20, 12] },
] as const

export function walkBySdm(memory: ByteMap, processor: SdmProcessor, linear: bigint): SdmWalk {
  const entries: bigint[] = []
  let writable = true
  let userMode = true
  let executeDisable = false
  let table = bits(processor.cr3, 51, 12) << 12n
  for (const { name, selectedBy } of STRUCTURES) {
    const address = table | (bits(linear, selectedBy[0], selectedBy[1]) << 3n)
    const entry = readQuad(memory, address)
    if (!bit(entry, 0)) return { end: 'not-present' }
    const pageSize = pageThatIsMapped(name, entry, processor)
    if (isReservedBitSet(name, entry, pageSize, processor)) return { end: 'reserved-bit' }
    entries.push(address)
    writable = writable && bit(entry, 1)
    userMode = userMode && bit(entry, 2)
    executeDisable = executeDisable || bit(entry, 63)
    if (pageSize !== undefined) {
      const offsetBits = pageSize === '1G' ? 30 : pageSize === '2M' ? 21 : 12
      const pat = bit(entry, pageSize === '4K' ? 7 : 12)
      return {
        end: 'page',
        physical:
          (bits(entry, 51, offsetBits) << BigInt(offsetBits)) | bits(linear, offsetBits - 1, 0),
        pageSize: 1n << BigInt(offsetBits),
        entries,
        writable,
        userMode,
        executeDisable,
        global: bit(entry, 8),
        patIndex: (pat ? 4 : 0) + (bit(entry, 4) ? 2 : 0) + (bit(entry, 3) ? 1 : 0),
      }
    }
    table = bits(entry, 51, 12) << 12n
  }
  throw new Error('a PTE maps a page')
}

/** The size of the page that an entry maps, or undefined where it references a table. */
function pageThatIsMapped(
  name: (typeof STRUCTURES)[number]['name'],
  entry: bigint,
  processor: SdmProcessor,
): '4K' | '2M' | '1G' | undefined {
  if (name === 'PTE') return '4K'
  if (name === 'PDE' && bit(entry, 7)) return '2M'
  if (name === 'PDPTE' && bit(entry, 7) && processor.page1gb) return '1G'
  return undefined
}

/** 4.5.4: the bits that are reserved in an entry whose P flag is 1. */
function isReservedBitSet(
  name: (typeof STRUCTURES)[number]['name'],
  entry: bigint,
  pageSize: '4K' | '2M' | '1G' | undefined,
  processor: SdmProcessor,
): boolean {
  if (processor.maxPhyAddr < 52 && bits(entry, 51, processor.maxPhyAddr) !== 0n) return true
  if (bit(entry, 63) && !processor.nxe) return true
  if (name === 'PML4E' && bit(entry, 7)) return true
  if (name === 'PDPTE' && bit(entry, 7) && !processor.page1gb) return true
  if (pageSize === '1G' && bits(entry, 29, 13) !== 0n) return true
  return pageSize === '2M' && bits(entry, 20, 13) !== 0n
}

/** 4.6.1: whether the page's rights allow an access. */
function isAllowed(
  page: SdmWalk & { readonly end: 'page' },
  processor: SdmProcessor,
  access: SdmAccess,
): boolean {
  const { wp, nxe, smep, smap, ac } = processor
  const fetchDisabled = nxe && page.executeDisable
  if (!access.user) {
    switch (access.kind) {
      case 'read':
        return !page.userMode || !smap || ac
      case 'write':
        if (!page.userMode) return !wp || page.writable
        if (smap && !ac) return false
        return !wp || page.writable
      case 'execute':
        if (page.userMode && smep) return false
        return !fetchDisabled
      default:
        throw new Error('no such access')
    }
  }
  if (!page.userMode) return false
  switch (access.kind) {
    case 'read':
      return true
    case 'write':
      return page.writable
    case 'execute':
      return !fetchDisabled
    default:
      throw new Error('no such access')
  }
}

/** 4.7: the error code of a page fault. */
function errorCode(
  processor: SdmProcessor,
  access: SdmAccess,
  cause: 'not-present' | 'reserved-bit' | 'rights',
): number {
  let code = 0
  if (cause !== 'not-present') code |= 1 << 0
  if (access.kind === 'write') code |= 1 << 1
  if (access.user) code |= 1 << 2
  if (cause === 'reserved-bit') code |= 1 << 3
  if (access.kind === 'execute' && (processor.nxe || processor.smep)) code |= 1 << 4
  return code
}

/**
 * One access with nothing cached. Accessed and dirty flags (4.8) are set in `memory` when the access is allowed; for an access that faults
 * the SDM leaves them open, and this leaves them alone.
 */
export function accessBySdm(
  memory: ByteMap,
  processor: SdmProcessor,
  access: SdmAccess,
): SdmOutcome {
  if (!isCanonicalAddress(access.linear)) return { result: '#GP' }
  const page = walkBySdm(memory, processor, access.linear)
  if (page.end !== 'page') {
    return { result: '#PF', errorCode: errorCode(processor, access, page.end) }
  }
  if (!isAllowed(page, processor, access)) {
    return { result: '#PF', errorCode: errorCode(processor, access, 'rights') }
  }
  for (const address of page.entries) {
    writeQuad(memory, address, readQuad(memory, address) | (1n << 5n))
  }
  if (access.kind === 'write') {
    const leaf = page.entries.at(-1)!
    writeQuad(memory, leaf, readQuad(memory, leaf) | (1n << 6n))
  }
  return { result: 'physical', physical: page.physical }
}
