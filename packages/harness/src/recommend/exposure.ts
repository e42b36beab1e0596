import type { StrategyCost } from '../results/results.ts'

/** Means over cells, and whether any of them has page 0 mapped; undefined where no cell came far enough to have a cost. */
export function meanCost(costs: readonly StrategyCost[]): StrategyCost | undefined {
  if (costs.length === 0) return undefined
  const mean = (read: (cost: StrategyCost) => number): number =>
    costs.reduce((sum, cost) => sum + read(cost), 0) / costs.length
  return {
    tablePages: mean((cost) => cost.tablePages),
    mappedBytes: mean((cost) => cost.mappedBytes),
    writableExecutableBytes: mean((cost) => cost.writableExecutableBytes),
    pageZeroMapped: costs.some(({ pageZeroMapped }) => pageZeroMapped),
    bootServicesBytes: mean((cost) => cost.bootServicesBytes),
    conflictingTypeBytes: mean((cost) => cost.conflictingTypeBytes),
    perCall: {
      cr3Writes: mean(({ perCall }) => perCall.cr3Writes),
      globalFlushes: mean(({ perCall }) => perCall.globalFlushes),
      tlbMisses: mean(({ perCall }) => perCall.tlbMisses),
      walkReferences: mean(({ perCall }) => perCall.walkReferences),
    },
    price: null,
  }
}

/**
 * Negative where the first is less exposed (writable and executable bytes, then page 0, boot services, conflicting memory types) or, as exposed, has the cheaper calls. Who
 * has no cost comes last.
 */
export function compareCosts(a: StrategyCost | undefined, b: StrategyCost | undefined): number {
  const [first, second] = [rankOf(a), rankOf(b)]
  for (const [index, value] of first.entries()) {
    const other = second[index] ?? 0
    if (value !== other) return value < other ? -1 : 1
  }
  return 0
}

function rankOf(cost: StrategyCost | undefined): number[] {
  if (cost === undefined) return [Infinity]
  const { perCall } = cost
  return [
    cost.writableExecutableBytes,
    Number(cost.pageZeroMapped),
    cost.bootServicesBytes,
    cost.conflictingTypeBytes,
    perCall.cr3Writes + perCall.globalFlushes,
    perCall.tlbMisses,
    perCall.walkReferences,
  ]
}
