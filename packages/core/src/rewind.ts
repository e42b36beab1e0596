/**
 * Takes what it was made from back to how it was then, as often as wanted, and in any order with other moments.
 */
export type Rewind = () => void
