import type { Scenario } from '@trapdoor/harness'
import { bootStep, everydayStep } from './steps.ts'

/** A boot, the first calls, and a look at the page tables. */
export const boot: Scenario = {
  name: 'boot',
  title: 'boots, asks the time, writes and reads a variable',
  steps: [
    bootStep,
    everydayStep,
    {
      name: 'look at the page tables',
      run: (context) => {
        context.inspectTables()
      },
    },
  ],
}
