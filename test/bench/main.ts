import { benchMatrix } from './matrix.ts'
import { benchPageWalk } from './page-walk.ts'

await benchPageWalk()
await benchMatrix()
