import type { Difference, Subject } from './difference.ts'

/** Something on either side; undefined where that side has nothing of the kind. */
export interface Pair<Item> {
  readonly observed: Item | undefined
  readonly model: Item | undefined
}

/** What has no equal on the other side, paired by key, in ascending order. Of several with one key the first are paired, then the second. */
export function differing<Item>(
  observed: readonly Item[],
  model: readonly Item[],
  keyOf: (item: Item) => bigint,
  describe: (item: Item) => string,
): Pair<Item>[] {
  const seen = byKey(observed, keyOf)
  const made = byKey(model, keyOf)
  return [...new Set([...seen.keys(), ...made.keys()])]
    .toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))
    .flatMap((key) => {
      const [ones, others] = [seen.get(key) ?? [], made.get(key) ?? []]
      return Array.from({ length: Math.max(ones.length, others.length) }, (_, index) => ({
        observed: ones[index],
        model: others[index],
      }))
    })
    .filter(
      (pair) =>
        pair.observed === undefined ||
        pair.model === undefined ||
        describe(pair.observed) !== describe(pair.model),
    )
}

function byKey<Item>(items: readonly Item[], keyOf: (item: Item) => bigint): Map<bigint, Item[]> {
  const groups = new Map<bigint, Item[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}

/** A pair as a difference. */
export function differenceOf<Item>(
  subject: Subject,
  { observed, model }: Pair<Item>,
  describe: (item: Item) => string,
  physicalOf: (item: Item) => number,
  bytes: number,
): Difference {
  return {
    subject,
    observed: observed === undefined ? 'nothing' : describe(observed),
    model: model === undefined ? 'nothing' : describe(model),
    observedAt: observed === undefined ? undefined : physicalOf(observed),
    modelAt: model === undefined ? undefined : physicalOf(model),
    bytes,
  }
}
