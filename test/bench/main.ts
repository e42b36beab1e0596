import { benchPageWalk } from './page-walk.ts'

await benchPageWalk()
