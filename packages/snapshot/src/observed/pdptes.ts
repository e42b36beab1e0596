import { Cr0, Cr4, Efer, Entry } from '@trapdoor/core'
import type { CpuState, PageRun } from '../snapshot.ts'

const ENTRIES = 4
const ENTRY_BYTES = 8
/** Bits of CR3 that are the address of the table in PAE paging. */
const TABLE = 0xffff_ffe0

/**
 * Table pages as a processor has them. QEMU since 7.2 marks the page-directory-pointer entries of PAE paging as accessed when it walks them (mmu_translate() in target/i386/tcg/sysemu/excp_helper.c), which no
 * processor does: the flag is reserved there, and the table could not be loaded into CR3 again (SDM Vol. 3, table 4-8).
 */
export function forgetAccessedPdptes(pages: readonly PageRun[], cpu: CpuState): PageRun[] {
  const isPae = (cpu.cr0 & Cr0.PG) !== 0 && (cpu.cr4 & Cr4.PAE) !== 0 && (cpu.efer & Efer.LMA) === 0
  if (!isPae) return [...pages]
  const table = (cpu.cr3 & TABLE) >>> 0
  return pages.map(({ address, bytes }) => {
    const offset = table - address
    if (offset < 0 || offset >= bytes.length) return { address, bytes }
    const copy = bytes.slice()
    for (let index = 0; index < ENTRIES; index++) {
      copy[offset + index * ENTRY_BYTES]! &= ~Entry.Accessed
    }
    return { address, bytes: copy }
  })
}
