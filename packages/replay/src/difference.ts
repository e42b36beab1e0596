/** What was compared. */
export type Compared =
  | 'exception'
  | 'status'
  | 'runtime memory'
  | 'scratch memory'
  | 'device access'
  | 'instructions'
  | 'distinct instructions'
  | 'loads'
  | 'stores'
  | 'device accesses'
  | 'page'

/** Something that was not as it was recorded. */
export interface Difference {
  readonly compared: Compared
  /** Where: an address, the number of an access; empty where there is but one. */
  readonly place: string
  readonly recorded: string
  readonly replayed: string
}

/** A number as the recordings print it. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}

/** A difference where two numbers are not the same; none where they are. */
export function compareNumbers(
  compared: Compared,
  recorded: number | bigint,
  replayed: number | bigint,
): Difference[] {
  if (recorded === replayed) return []
  const text = typeof recorded === 'bigint' ? hex : String
  return [{ compared, place: '', recorded: text(recorded), replayed: text(replayed) }]
}
