import type { StrategyDefinition } from './efi/strategy.ts'
import type { Kernel } from './kernel.ts'

/**
 * Whether a kernel is Linux of `version` (such as "4.10") or later: by its profile's own version where it has one, else by the one that the first of its strategies is taken for which
 * stands for any, or the last that it stands for. A strategy of another system is none of Linux's versions.
 */
export function isLinux(kernel: Kernel, version: string): boolean {
  const own = ownVersion(kernel)
  if (own !== undefined) return isAtLeast(own, version)
  const range = rangeOf(kernel)
  if (range === undefined) return false
  return range.before === undefined || compareVersions(range.before, version) > 0
}

/** Whether a kernel is Linux before `version`, or its strategy stands for one that is. */
export function isAnyLinuxBefore(kernel: Kernel, version: string): boolean {
  const own = ownVersion(kernel)
  if (own !== undefined) return !isAtLeast(own, version)
  const range = rangeOf(kernel)
  return range !== undefined && !isAtLeast(range.from, version)
}

function ownVersion(kernel: Kernel): string | undefined {
  return kernel.profile.linux ?? rangeOf(kernel)?.as
}

/** The kernel's own strategy says of which versions it is, whatever the command line has chosen instead. */
function rangeOf({ profile, strategy }: Kernel): StrategyDefinition['linux'] {
  return profile.strategies[0]?.definition.linux ?? strategy?.definition.linux
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
