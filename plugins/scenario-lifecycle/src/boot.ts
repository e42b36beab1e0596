import type { Scenario } from '@trapdoor/harness'
import { everydayCalls } from './everyday-calls.ts'

/** A boot, the first calls, and a look at the page tables. */
export const boot: Scenario = {
  name: 'boot',
  title: 'boots, asks the time, writes and reads a variable',
  steps: [
    {
      name: 'boot',
      run: (context) => {
        context.boot()
      },
    },
    { name: 'call', run: everydayCalls },
    {
      name: 'look at the page tables',
      run: (context) => {
        context.inspectTables()
      },
    },
  ],
}
