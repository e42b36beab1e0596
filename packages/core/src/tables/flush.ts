import type { VirtualAddress } from '../address.ts'
import { Cr4 } from '../cpu/control.ts'
import type { Cpu } from '../cpu/cpu.ts'
import { linearAddress } from '../paging/linear-page.ts'
import { FOUR_LEVEL, type PagingMode } from '../paging/mode.ts'
import type { Rewind } from '../rewind.ts'

/** Pages whose mapping was changed while it was live. */
export interface ChangedRange {
  readonly start: VirtualAddress
  readonly bytes: number
  /** Bytes of each page as it was before the change; `table` where an entry that led to a table was, whatever was below it. */
  readonly pageSize: number | 'table'
}

/** Invalidating so many pages one by one costs no more than dropping all: Linux's tlb_single_page_flush_ceiling (arch/x86/mm/tlb.c). */
const SINGLE_PAGE_CEILING = 33

/** Numbers that {@link LiveChanges} takes down for a range: its first page, its pages of 4 KiB, and those of each of its pages. */
const RECORD = 3
/** In place of a page's size: the entry led to a table. */
const TABLE = 0

/**
 * What a change of live mappings leaves to do: translations that processors may still hold. It is discharged by flushing, or by saying why that is
 * not needed. What was mapped nowhere before needs no flush (SDM Vol. 3, 4.10.4.3).
 */
export class FlushObligation {
  readonly #mode: PagingMode
  readonly #records: readonly number[]
  readonly #outstanding: Set<FlushObligation> | undefined
  #discharge: 'none' | 'flushed' | { readonly ignored: string }

  /** Comes from {@link LiveChanges} alone. Without `outstanding` it is discharged. */
  constructor(mode: PagingMode, records: readonly number[], outstanding?: Set<FlushObligation>) {
    this.#mode = mode
    this.#records = records
    this.#outstanding = outstanding
    this.#discharge = outstanding === undefined ? 'flushed' : 'none'
    outstanding?.add(this)
  }

  /** The pages that were changed, in ascending order. Pages of a large page that was split for the change count as that page. */
  get ranges(): ChangedRange[] {
    const ranges: ChangedRange[] = []
    for (let at = 0; at < this.#records.length; at += RECORD) {
      const size = this.#records[at + 2]!
      ranges.push({
        start: linearAddress(this.#mode, this.#records[at]!),
        bytes: this.#records[at + 1]! * 4096,
        pageSize: size === TABLE ? 'table' : size * 4096,
      })
    }
    return ranges
  }

  get isDischarged(): boolean {
    return this.#discharge !== 'none'
  }

  /** Why nobody flushed, as {@link ignore} was told. */
  get ignoredBecause(): string | undefined {
    return typeof this.#discharge === 'object' ? this.#discharge.ignored : undefined
  }

  /** Drops the translations on one CPU, which is enough where no other runs on these tables. */
  flush(cpu: Cpu): void {
    this.#invalidate(cpu)
    this.#settle('flushed')
  }

  /** Drops the translations on every CPU of the initiator's machine, by interrupts to the others. */
  shootdown(initiator: Cpu): void {
    if (this.#records.length > 0) {
      initiator.machine.shootdown(initiator, (cpu) => {
        this.#invalidate(cpu)
      })
    }
    this.#settle('flushed')
  }

  /** Discharges it without a flush, for a reason such as "the tables are not loaded yet". */
  ignore(reason: string): void {
    this.#settle({ ignored: reason })
  }

  /** Is outstanding again, as it was when it was made. */
  reopen(): void {
    this.#discharge = 'none'
    this.#outstanding?.add(this)
  }

  #settle(discharge: 'flushed' | { readonly ignored: string }): void {
    if (this.isDischarged) return
    this.#discharge = discharge
    this.#outstanding?.delete(this)
  }

  /**
   * INVLPG page by page; everything at once where that is too often, where a table went away, and with PCIDs, as INVLPG leaves alone
   * what other contexts hold.
   */
  #invalidate(cpu: Cpu): void {
    if (this.#records.length === 0) return
    if (this.#pages > SINGLE_PAGE_CEILING || (cpu.cr4 & Cr4.PCIDE) !== 0) {
      dropAll(cpu)
      return
    }
    for (let at = 0; at < this.#records.length; at += RECORD) {
      const [first, count, size] = this.#records.slice(at, at + RECORD) as [number, number, number]
      for (let page = first; page < first + count; page += size) {
        cpu.invlpg(linearAddress(this.#mode, page))
      }
    }
  }

  get #pages(): number {
    let pages = 0
    for (let at = 0; at < this.#records.length; at += RECORD) {
      const size = this.#records[at + 2]!
      pages += size === TABLE ? Infinity : this.#records[at + 1]! / size
    }
    return pages
  }
}

const NO_RECORDS: number[] = []

/** Of all operations that changed no live mapping. */
export const NOTHING_TO_FLUSH: FlushObligation = new FlushObligation(FOUR_LEVEL, NO_RECORDS)

/** Changing CR4.PGE drops global translations too (SDM Vol. 3, 4.10.4.1); a CPU without global pages has nothing that a CR3 load leaves. */
function dropAll(cpu: Cpu): void {
  if (cpu.machine.features.pge) {
    cpu.writeCr4(cpu.cr4 ^ Cr4.PGE)
    cpu.writeCr4(cpu.cr4 ^ Cr4.PGE)
  } else cpu.writeCr3(cpu.cr3)
}

/** Takes down which live mappings an operation changes. */
export class LiveChanges {
  readonly #mode: PagingMode
  #records: number[] = NO_RECORDS
  #isAscending = true
  #outstanding: Set<FlushObligation> | undefined

  constructor(mode: PagingMode) {
    this.#mode = mode
  }

  /** Obligations that nobody has discharged, the oldest first. */
  get outstanding(): FlushObligation[] {
    return [...(this.#outstanding ?? [])]
  }

  /** Remembers which obligations are outstanding at this moment, between two operations. */
  checkpoint(): Rewind {
    const outstanding = this.outstanding
    return () => {
      this.#outstanding?.clear()
      for (const obligation of outstanding) obligation.reopen()
    }
  }

  /** Takes down `count` pages (of 4 KiB) from `page` on that were mapped by pages of `size`. What lies in the range that was taken down last is known. */
  add(page: number, count: number, size: number): void {
    const records = this.#records
    const last = records.length - RECORD
    if (last < 0) {
      this.#records = [page, count, size]
      return
    }
    const start = records[last]!
    const end = start + records[last + 1]!
    if (page >= start && page + count <= end) return
    if (page === end && records[last + 2] === size && size !== TABLE) {
      records[last + 1]! += count
      return
    }
    if (page < start) this.#isAscending = false
    records.push(page, count, size)
  }

  /** Takes down that an entry which led to a table for `count` pages from `page` on was changed. */
  addTable(page: number, count: number): void {
    this.add(page, count, TABLE)
  }

  /** What the operation that ends here leaves to flush. */
  finish(): FlushObligation {
    if (this.#records.length === 0) return NOTHING_TO_FLUSH
    if (!this.#isAscending) this.#sort()
    const records = this.#records
    this.#records = NO_RECORDS
    this.#outstanding ??= new Set()
    return new FlushObligation(this.#mode, records, this.#outstanding)
  }

  /** Puts the ranges in order, and those that lie in others aside. */
  #sort(): void {
    const ranges: [page: number, count: number, size: number][] = []
    for (let at = 0; at < this.#records.length; at += RECORD) {
      ranges.push([this.#records[at]!, this.#records[at + 1]!, this.#records[at + 2]!])
    }
    this.#records = NO_RECORDS
    this.#isAscending = true
    for (const [page, count, size] of ranges.toSorted((a, b) => a[0] - b[0] || b[1] - a[1])) {
      this.add(page, count, size)
    }
  }
}
