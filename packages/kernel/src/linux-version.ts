import type { StrategyDefinition } from './efi/strategy.ts'
import type { Kernel } from './kernel.ts'

/**
 * Whether a kernel is Linux of `version` (such as "4.10") or later: by its profile's own version where it has one, else by the last version that its strategy stands for. A
 * strategy of another system is none of Linux's versions; without one, as with `noefi`, the profile's first strategy tells.
 */
export function isLinux({ profile, strategy }: Kernel, version: string): boolean {
  if (profile.linux !== undefined) return isAtLeast(profile.linux, version)
  return reachesLinux(strategy?.definition ?? profile.strategies[0]?.definition, version)
}

function reachesLinux(definition: StrategyDefinition | undefined, version: string): boolean {
  if (definition?.linux === undefined) return false
  const { before } = definition.linux
  return before === undefined || compareVersions(before, version) > 0
}

function isAtLeast(version: string, wanted: string): boolean {
  return compareVersions(version, wanted) >= 0
}

/** The sign of the difference of two versions, number by number; "6.12.117-amd64" counts as 6.12.117. */
export function compareVersions(a: string, b: string): number {
  const [one, other] = [numbersOf(a), numbersOf(b)]
  for (let index = 0; index < Math.max(one.length, other.length); index++) {
    const difference = (one[index] ?? 0) - (other[index] ?? 0)
    if (difference !== 0) return Math.sign(difference)
  }
  return 0
}

function numbersOf(version: string): number[] {
  const [numbers = ''] = /^\d+(?:\.\d+)*/.exec(version) ?? []
  return numbers.split('.').map(Number)
}
