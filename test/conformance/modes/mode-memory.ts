import type { PhysicalMemory } from '@trapdoor/core'

import type { ModeName } from '../oracle/control-registers.ts'

/** The root table, and the same with the PDPTEs of PAE paging, which lie at bit 5 of it. */
export const ROOT = 0x1_0000
export const PAE_ROOT: number = ROOT | 0x20

/** The address that leads every mode elsewhere: 32-bit paging to entries 0x101 and 2, the others to 1, 2 and 2 below the first. */
export const PROBE = 0x4040_2000n

/** Where {@link PROBE} leads in each mode. */
export const DESTINATIONS: Readonly<Record<ModeName, number>> = {
  off: 0x4040_2000,
  '32-bit': 0xa_2000,
  // The PDE has PS set, so that with CR4.PSE it is a page.
  '32-bit PSE': 0x40_2000,
  PAE: 0xb_0000,
  '4-level': 0xc_0000,
  '5-level': 0xd_0000,
}

/**
 * Page tables that are tables of all modes at once: the root's bytes 0 to 7 are the PML4E and PML5E, bytes 40 to 47 a PDPTE of PAE paging, bytes 0x404
 * to 0x407 a PDE of 32-bit paging. The PML4E has R/W set, which is reserved in a PDPTE: PAE paging cannot have this root.
 */
export function writeModeTables(memory: PhysicalMemory): void {
  memory.write32(ROOT + 0x404, 0x40_0083)
  memory.write32(0x40_0000 + 2 * 4, DESTINATIONS['32-bit'] | 3)
  const entry = (table: number, index: number, value: number): void =>
    memory.write64(table + index * 8, BigInt(value))
  entry(ROOT, 5, 0x1_1000 | 1)
  entry(0x1_1000, 2, 0x1_2003)
  entry(0x1_2000, 2, DESTINATIONS.PAE | 3)
  // One table is the PDPT of 4-level paging and the PML4 of 5-level paging.
  entry(ROOT, 0, 0x1_3003)
  entry(0x1_3000, 1, 0x1_4003)
  entry(0x1_4000, 2, 0x1_5003)
  entry(0x1_5000, 2, DESTINATIONS['4-level'] | 3)
  entry(0x1_3000, 0, 0x1_6003)
  entry(0x1_6000, 1, 0x1_7003)
  entry(0x1_7000, 2, 0x1_8003)
  entry(0x1_8000, 2, DESTINATIONS['5-level'] | 3)
}

/** SDM Vol. 3, table 4-8, read from memory: whether none of four PDPTEs is present with a reserved bit. */
export function pdptesLoadable(
  memory: PhysicalMemory,
  address: number,
  physicalAddressBits: number,
): boolean {
  const reserved =
    0b1_1110_0110n |
    (((1n << BigInt(64 - physicalAddressBits)) - 1n) << BigInt(physicalAddressBits))
  return [0, 8, 16, 24].every((offset) => {
    const entry = memory.read64(address + offset)
    return (entry & 1n) === 0n || (entry & reserved) === 0n
  })
}
