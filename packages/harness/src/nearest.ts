import { distance } from 'fastest-levenshtein'

/** The candidate that was probably meant: at most a third of its letters differ, or it starts with `name`. Undefined when none is near. */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = name.toLowerCase()
  let best: string | undefined
  let bestDistance = Number.POSITIVE_INFINITY
  for (const candidate of candidates) {
    const lower = candidate.toLowerCase()
    const far = wanted.length > 1 && lower.startsWith(wanted) ? 1 : distance(wanted, lower)
    if (far < bestDistance && far <= Math.max(1, Math.ceil(candidate.length / 3))) {
      best = candidate
      bestDistance = far
    }
  }
  return best
}

/** Names that are worth reading in one line. */
const MOST_NAMES = 12

/** "did you mean X?", or the legal names when nothing is near, and they are not too many. */
export function nameHint(name: string, candidates: readonly string[]): string {
  const nearest = nearestName(name, candidates)
  if (nearest !== undefined) return `did you mean "${nearest}"?`
  if (candidates.length === 0) return 'there are none'
  return candidates.length > MOST_NAMES
    ? '`trapdoor list` shows what there is'
    : `legal are ${candidates.join(', ')}`
}
