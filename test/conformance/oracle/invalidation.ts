/**
 * Which cached translations an operation takes away: SDM Vol. 3, 4.10.4.1, and for page faults its last paragraphs; 4.10.2.4 for global
 * pages. Everything that need not go may stay, and everything that stays may be used (4.10.2.2, 4.10.3.2).
 */

/** Something that a processor does, as far as it matters to what it has cached. */
export type Invalidation =
  | { readonly kind: 'INVLPG' | 'page fault'; readonly address: bigint }
  | {
      readonly kind: 'INVPCID'
      readonly type: 0 | 1 | 2 | 3
      readonly pcid: number
      readonly address: bigint
    }
  | { readonly kind: 'MOV CR3'; readonly pcid: number; readonly keep: boolean }
  /** CR4.PGE changed, CR4.PCIDE cleared, CR0.PG cleared. */
  | { readonly kind: 'everything' }
  /** CR4.PAE changed, CR4.SMEP set. */
  | { readonly kind: 'context' }
  /** Whatever else is written. */
  | { readonly kind: 'nothing' }

/** What was cached: a translation in a TLB, or an entry of a paging-structure cache for a region of linear addresses. */
export interface CachedItem {
  readonly in: 'TLB' | 'paging-structure cache'
  /** The context in which it was cached. */
  readonly pcid: number
  /** The translation of a global page (never in a paging-structure cache). */
  readonly global: boolean
  /** First address of the page or region, and its bytes. */
  readonly start: bigint
  readonly bytes: bigint
}

/** Whether the item must be gone afterwards, may stay, or the manual leaves open whether it must go. */
export type Fate = 'gone' | 'may stay' | 'open'

function gone(condition: boolean): Fate {
  return condition ? 'gone' : 'may stay'
}

/** What becomes of an item when the processor does `operation` in the context `current`. */
export function fateOf(operation: Invalidation, current: number, item: CachedItem): Fate {
  const covers = (address: bigint): boolean =>
    address >= item.start && address < item.start + item.bytes
  if (operation.kind === 'nothing') return 'may stay'
  if (operation.kind === 'everything') return 'gone'
  if (operation.kind === 'INVLPG') {
    // The paging-structure caches of the current PCID go whatever the address.
    if (item.in === 'paging-structure cache') return gone(item.pcid === current)
    return gone(covers(operation.address) && (item.global || item.pcid === current))
  }
  if (operation.kind === 'INVPCID') return fateOfInvpcid(operation, item, covers(operation.address))
  if (operation.kind === 'MOV CR3')
    return gone(!operation.keep && !item.global && item.pcid === operation.pcid)
  if (operation.kind === 'page fault' && !covers(operation.address)) return 'may stay'
  // What goes is what is associated with the current PCID; of a global page that another one cached, nothing is said.
  if (item.pcid === current) return 'gone'
  return item.global ? 'open' : 'may stay'
}

function fateOfInvpcid(
  operation: Extract<Invalidation, { kind: 'INVPCID' }>,
  item: CachedItem,
  covered: boolean,
): Fate {
  if (operation.type === 2) return 'gone'
  if (operation.type === 3) return gone(!item.global)
  if (item.global || item.pcid !== operation.pcid) return 'may stay'
  if (operation.type === 1 || covered) return 'gone'
  // Of the paging-structure caches, what is not used for the address may go or stay.
  return item.in === 'TLB' ? 'may stay' : 'open'
}
