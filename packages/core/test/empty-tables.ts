import {
  type AllocateTable,
  BROADWELL,
  type CpuFeatures,
  FOUR_LEVEL,
  type PagingMode,
  PageTableBuilder,
  phys,
  PhysicalMemory,
  type TranslationContext,
} from '../src/index.ts'

export interface EmptyTables {
  readonly memory: PhysicalMemory
  readonly builder: PageTableBuilder
  readonly context: TranslationContext
  /** Frames that the builder took, the root first. */
  readonly used: number[]
  /** Frames that it gave back. */
  readonly released: number[]
}

/** A root at 1 MiB with nothing mapped, in a memory of its own; tables are taken upwards from there. */
export function emptyTables(
  options: {
    readonly mode?: PagingMode
    readonly features?: CpuFeatures
    readonly memory?: PhysicalMemory
    readonly root?: number
    readonly allocate?: AllocateTable
  } = {},
): EmptyTables {
  const { mode = FOUR_LEVEL, features = BROADWELL, memory = new PhysicalMemory() } = options
  const root = phys(options.root ?? 0x10_0000)
  const used = [Math.floor(root / 4096)]
  const released: number[] = []
  const allocate = (): number => {
    used.push(used[0]! + used.length)
    return used.at(-1)!
  }
  const builder = new PageTableBuilder(memory, root, options.allocate ?? allocate, {
    mode,
    release: (frame) => released.push(frame),
  })
  return {
    memory,
    builder,
    context: { memory, mode, features, noExecute: mode.entryBytes === 8, root },
    used,
    released,
  }
}
