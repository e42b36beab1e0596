import type { CaseResult, StrategyCost } from '@trapdoor/harness'
import { alignColumns, formatBytes } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'

/** A line of a table of costs. */
interface CostRow {
  readonly label: string
  readonly read: (cost: StrategyCost) => number
  readonly format: (value: number) => string
}

/** What a strategy costs and exposes, line by line. */
const COST_ROWS: readonly CostRow[] = [
  { label: 'page tables', read: ({ tablePages }) => tablePages * 4096, format: formatWhole },
  { label: 'mapped while firmware runs', read: (cost) => cost.mappedBytes, format: formatWhole },
  {
    label: 'writable and executable',
    read: (cost) => cost.writableExecutableBytes,
    format: formatWhole,
  },
  { label: 'page zero mapped', read: (cost) => Number(cost.pageZeroMapped), format: howOften },
  { label: 'boot services exposed', read: (cost) => cost.bootServicesBytes, format: formatWhole },
  {
    label: 'conflicting memory types',
    read: (cost) => cost.conflictingTypeBytes,
    format: formatWhole,
  },
  { label: 'CR3 writes a call', read: ({ perCall }) => perCall.cr3Writes, format: rounded },
  { label: 'global flushes a call', read: ({ perCall }) => perCall.globalFlushes, format: rounded },
  { label: 'TLB misses a call', read: ({ perCall }) => perCall.tlbMisses, format: rounded },
  {
    label: 'page-table reads a call',
    read: ({ perCall }) => perCall.walkReferences,
    format: rounded,
  },
]

/** What strategies cost, as means over the cells in which all came far enough to call. `cells` has one result for each of `names` in every row. */
export function renderCosts(
  names: readonly string[],
  cells: readonly (readonly CaseResult[])[],
  paint: Paint,
): string[] {
  const costs = cells
    .map((row) => row.flatMap(({ cost }) => cost ?? []))
    .filter((row) => row.length === names.length)
  if (costs.length === 0) return ['  no cell in which all called a service']
  const rows = COST_ROWS.map(({ label, read, format }) => {
    const values = names.map((_, side) =>
      format(costs.reduce((sum, row) => sum + read(row[side]!), 0) / costs.length),
    )
    const differs = values.some((value) => value !== values[0])
    return [`  ${label}`].concat(values, differs ? paint('yellow', 'differs') : '')
  })
  const head = ['', ...names.map((name) => paint('bold', name)), '']
  return alignColumns(
    [head, ...rows],
    names.map((_, index) => index + 1),
  )
}

function rounded(value: number): string {
  return String(Math.round(value * 10) / 10)
}

/** A mean of truths, 1 for yes. */
function howOften(value: number): string {
  if (value === 0) return 'no'
  return value === 1 ? 'yes' : 'at times'
}

/** Bytes in a unit that still shows a difference of one page in small amounts. */
function formatWhole(bytes: number): string {
  return bytes < 64 * 2 ** 20 ? `${Math.round(bytes / 1024)} KiB` : formatBytes(Math.round(bytes))
}
