import { GUEST_KEY } from '../cases/case.ts'
import type { TableLayout } from '../cases/table-layout.ts'
import { PAGE_BYTES } from '../cases/table.ts'
import { guestAddress, HIGH_BASE, Physical } from './layout.ts'

/** P, R/W, A and D, so that no walk through the guest's pages writes to their tables. */
const ALWAYS_THERE = 0x63n
const PRESENT = 0x1n
const USER = 0x4n
const LARGE = 0x80n
/** The guest's own protection key, which no case disables. */
const KEY = BigInt(GUEST_KEY) << 59n

/** The entry that every root of a layout has for the guest. */
export const GUEST_ENTRY: Readonly<Record<TableLayout['name'], bigint>> = {
  '5-level': BigInt(Physical.HighPml4) | ALWAYS_THERE | USER,
  '4-level': BigInt(Physical.HighPdpt) | ALWAYS_THERE | USER,
  PAE: BigInt(Physical.HighPd) | PRESENT,
  '32-bit': BigInt(Physical.HighPt) | ALWAYS_THERE | USER,
  '32-bit PSE': BigInt(Physical.HighPt) | ALWAYS_THERE | USER,
}

/** Writes the guest's own tables: those that it runs on between cases, and those that the cases' roots lead to. `image` begins at Physical.Header. */
export function writeOwnTables(image: Buffer, layout: TableLayout): void {
  writeIdentityMap(image, layout.name === '5-level')
  if (layout.longMode) writeHighPages(image, layout)
  else writeLegacyPages(image, layout)
}

function writeEntry(image: Buffer, table: number, index: number, value: bigint): void {
  image.writeBigUInt64LE(value, table - Physical.Header + index * 8)
}

/** Memory as it is from address 0 on, up to 1 TiB. */
function writeIdentityMap(image: Buffer, hasPml5: boolean): void {
  const pml4 = hasPml5 ? Physical.LowPml4 : Physical.Root
  if (hasPml5) writeEntry(image, Physical.Root, 0, BigInt(Physical.LowPml4) | ALWAYS_THERE)
  for (let half = 0; half < 2; half++) {
    const pdpt = Physical.LowPdpts + half * PAGE_BYTES
    writeEntry(image, pml4, half, BigInt(pdpt) | ALWAYS_THERE)
    for (let index = 0; index < 512; index++) {
      const gibibyte = BigInt(half * 512 + index) << 30n
      writeEntry(image, pdpt, index, gibibyte | ALWAYS_THERE | LARGE | KEY)
    }
  }
}

/** The guest's pages at the end of the linear addresses. */
function writeHighPages(image: Buffer, layout: TableLayout): void {
  writeEntry(image, Physical.Root, layout.guestIndex, GUEST_ENTRY[layout.name])
  writeEntry(image, Physical.HighPml4, 511, BigInt(Physical.HighPdpt) | ALWAYS_THERE | USER)
  writeEntry(image, Physical.HighPdpt, 511, BigInt(Physical.HighPd) | ALWAYS_THERE | USER)
  writeEntry(image, Physical.HighPd, 511, BigInt(Physical.HighPt) | ALWAYS_THERE | USER)
  for (let page = Physical.UserCode as number; page < Physical.Buffers; page += PAGE_BYTES) {
    const user = page === Physical.UserCode ? USER : 0n
    const index = Number((guestAddress(page, true) - HIGH_BASE) / BigInt(PAGE_BYTES))
    writeEntry(image, Physical.HighPt, index, BigInt(page) | ALWAYS_THERE | user | KEY)
  }
}

/** The guest's pages where they lie in memory. */
function writeLegacyPages(image: Buffer, layout: TableLayout): void {
  writeEntry(image, Physical.HighPd, 0, BigInt(Physical.HighPt) | ALWAYS_THERE | USER)
  for (let page = Physical.Header as number; page < Physical.Buffers; page += PAGE_BYTES) {
    const user = page === Physical.LegacyUserCode ? USER : 0n
    const entry = BigInt(page) | ALWAYS_THERE | user
    const index = page / PAGE_BYTES
    if (layout.entryBytes === 8) writeEntry(image, Physical.HighPt, index, entry)
    else image.writeUInt32LE(Number(entry), Physical.HighPt - Physical.Header + index * 4)
  }
}
