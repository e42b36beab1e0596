/** What a CPU has done so far; differences of two snapshots give the price of what lay between. */
export interface CpuCounters {
  cr3Writes: number
  /** Flushes of everything, global translations too: by a change of CR4.PGE, INVPCID of type 2, or paging that is switched off. */
  globalFlushes: number
  invlpgs: number
  tlbHits: number
  tlbMisses: number
  /** Entries that page walks read from memory. */
  walkReferences: number
}

/** Counters at zero. */
export function zeroCounters(): CpuCounters {
  return {
    cr3Writes: 0,
    globalFlushes: 0,
    invlpgs: 0,
    tlbHits: 0,
    tlbMisses: 0,
    walkReferences: 0,
  }
}

/** What was counted from `before` to `after`. */
export function countersBetween(before: CpuCounters, after: CpuCounters): CpuCounters {
  return {
    cr3Writes: after.cr3Writes - before.cr3Writes,
    globalFlushes: after.globalFlushes - before.globalFlushes,
    invlpgs: after.invlpgs - before.invlpgs,
    tlbHits: after.tlbHits - before.tlbHits,
    tlbMisses: after.tlbMisses - before.tlbMisses,
    walkReferences: after.walkReferences - before.walkReferences,
  }
}
