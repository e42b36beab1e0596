/** What a step has touched: names of places, such as frames or locks. Two steps are dependent where one writes what the other reads or writes. */
export interface Footprint {
  readonly reads: ReadonlySet<string>
  readonly writes: ReadonlySet<string>
}

/** A run from the start, step by step. */
export interface Execution {
  /** Processes that have a step left and need not wait, in ascending order. */
  enabled(): readonly number[]
  /** Does the next step of a process. */
  step(process: number): Footprint
  /** Whether the run is over before its time, as a machine that died is. */
  isOver(): boolean
}

/** One complete run. */
export interface Explored<Run extends Execution> {
  /** Which process did each step. */
  readonly schedule: readonly number[]
  readonly run: Run
}

/** A state on the way to where the search is. */
interface Node {
  readonly enabled: readonly number[]
  readonly backtrack: Set<number>
  readonly sleep: Map<number, Footprint>
  /** Processes that were tried here, with what their step touched. */
  readonly done: Map<number, Footprint>
}

/**
 * Runs every schedule of some processes that can make a difference: dynamic partial-order reduction with sleep sets (Flanagan and Godefroid, POPL 2005; Godefroid, 1996).
 * Schedules that differ only in the order of independent steps are run once. `start` begins anew. Stops after `limit` runs at the latest. The process that ran last goes
 * on as long as it can, so that the first schedules are those with the fewest switches.
 */
export function* explore<Run extends Execution>(
  start: () => Run,
  limit: number = Infinity,
): Generator<Explored<Run>, void, undefined> {
  const path: Node[] = []
  const chosen: number[] = []
  for (let count = 0; count < limit; count++) {
    const run = start()
    const footprints: Footprint[] = []
    for (const [index, process] of chosen.entries()) {
      const footprint = run.step(process)
      path[index]!.done.set(process, footprint)
      footprints.push(footprint)
    }
    const sleeping = finish(run, path, chosen, footprints)
    // What ended the run kept all others from what they had left to do.
    if (run.isOver()) for (const each of path.at(-1)!.enabled) path.at(-1)!.backtrack.add(each)
    addBacktracks(path, chosen, footprints)
    // What sleeps at the end would have raced, too.
    for (const [process, footprint] of sleeping) {
      addBacktracks(path, [...chosen, process], [...footprints, footprint])
    }
    if (sleeping.size === 0) yield { schedule: [...chosen], run }
    if (!backtrack(path, chosen)) return
  }
}

/** Runs on by the default choice. Returns the processes that sleep where all that is left to do was explored elsewhere; none where the run is complete. */
function finish(
  run: Execution,
  path: Node[],
  chosen: number[],
  footprints: Footprint[],
): ReadonlyMap<number, Footprint> {
  for (;;) {
    const enabled = run.isOver() ? [] : run.enabled()
    const sleep = sleepingAfter(path.at(-1), chosen.at(-1), footprints.at(-1))
    if (enabled.length === 0) return new Map()
    const awake = enabled.filter((process) => !sleep.has(process))
    if (awake.length === 0) return sleep
    const last = chosen.at(-1)
    const next = last !== undefined && awake.includes(last) ? last : awake[0]!
    const node: Node = { enabled, backtrack: new Set([next]), sleep, done: new Map() }
    path.push(node)
    chosen.push(next)
    const footprint = run.step(next)
    node.done.set(next, footprint)
    footprints.push(footprint)
  }
}

/** Processes whose next step leads nowhere new after `process` did its own: those that slept or were tried, and do not depend on it. */
function sleepingAfter(
  node: Node | undefined,
  process: number | undefined,
  footprint: Footprint | undefined,
): Map<number, Footprint> {
  const sleep = new Map<number, Footprint>()
  if (node === undefined || footprint === undefined) return sleep
  for (const [other, touched] of [...node.sleep, ...node.done]) {
    if (other !== process && !areDependent(touched, footprint)) sleep.set(other, touched)
  }
  return sleep
}

/**
 * For every step: where the last step of another process was taken that it depends on, and that does not come before it anyway, the other order has to be tried.
 */
function addBacktracks(
  path: readonly Node[],
  chosen: readonly number[],
  footprints: readonly Footprint[],
): void {
  // For each step, the steps that happen before it, itself included.
  const before: Set<number>[] = []
  for (const [later, footprint] of footprints.entries()) {
    const process = chosen[later]!
    const previous = chosen.lastIndexOf(process, later - 1)
    const ordered = later > 0 && previous >= 0 ? before[previous]! : new Set<number>()
    const happened = new Set([...ordered, later])
    let isRace = true
    for (let earlier = later - 1; earlier >= 0; earlier--) {
      if (!areDependent(footprints[earlier]!, footprint)) continue
      for (const step of before[earlier]!) happened.add(step)
      if (!isRace || chosen[earlier] === process || ordered.has(earlier)) continue
      const { enabled, sleep, backtrack: tries } = path[earlier]!
      // One that had to wait for just this step, as for a lock to be given back, could not have come before it.
      if (!enabled.includes(process)) continue
      isRace = false
      // One that sleeps is not run here, and so does not show what it would have raced with: all others have to be.
      if (!sleep.has(process)) tries.add(process)
      else for (const each of enabled) tries.add(each)
    }
    before.push(happened)
  }
}

/** Goes back to the deepest state where something is left to try, and chooses that. Returns false where there is none. */
function backtrack(path: Node[], chosen: number[]): boolean {
  while (path.length > 0) {
    const node = path.at(-1)!
    const left = [...node.backtrack].find(
      (process) => !node.done.has(process) && !node.sleep.has(process),
    )
    chosen.pop()
    if (left !== undefined) {
      chosen.push(left)
      return true
    }
    path.pop()
  }
  return false
}

/**
 * Of processes that are alike only the first, for {@link Execution.enabled}: a schedule with another of them in its place is the same one, renamed. `kindOf` gives equal
 * values for processes that have not begun and will do the same; undefined for one that is like no other.
 */
export function oneOfAlike(
  processes: readonly number[],
  kindOf: (process: number) => unknown,
): number[] {
  const kinds = new Set<unknown>()
  return processes.filter((process) => {
    const kind = kindOf(process)
    if (kind === undefined) return true
    const isFirst = !kinds.has(kind)
    kinds.add(kind)
    return isFirst
  })
}

/** Whether the order of two steps may matter. */
export function areDependent(a: Footprint, b: Footprint): boolean {
  const writes = (one: Footprint, other: Footprint): boolean => {
    for (const place of one.writes) {
      if (other.writes.has(place) || other.reads.has(place)) return true
    }
    return false
  }
  return writes(a, b) || writes(b, a)
}
