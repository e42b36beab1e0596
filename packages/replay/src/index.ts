export type { Compared, Difference } from './difference.ts'
export { type Extent, type ReplayedCall, replayFolder } from './replay.ts'
