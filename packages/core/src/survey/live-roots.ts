import type { Machine } from '../machine/machine.ts'
import type { LiveRoot } from '../memory/type-conflicts.ts'
import { mappedRanges } from './ranges.ts'

/**
 * The page tables that the CPUs of a machine have loaded, each once for each way of caching, for findTypeConflicts(). `nameOf` gets the physical address of a root in bytes. CPUs without
 * paging have none. Roots that no CPU has loaded are the caller's to add.
 */
export function liveRoots(
  machine: Machine,
  nameOf: (root: number) => string = (root) => `CR3 0x${root.toString(16)}`,
): LiveRoot[] {
  const roots = new Map<string, LiveRoot>()
  for (const cpu of machine.cpus) {
    if (cpu.mode.levels.length === 0) continue
    const { caching } = cpu
    const key = `${cpu.root} ${cpu.mode.name} ${caching.pat.join(' ')} ${String(caching.cacheDisable)}`
    if (roots.has(key)) continue
    const { ranges } = mappedRanges(cpu.translationContext())
    roots.set(key, { name: nameOf(cpu.root), ranges, caching })
  }
  return [...roots.values()]
}
