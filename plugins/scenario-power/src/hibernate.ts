import type { Scenario } from '@trapdoor/harness'
import { bootStep, everydayCalls, everydayStep } from '@trapdoor/scenario-lifecycle'

const before: Scenario['steps'] = [bootStep, everydayStep]
const after = { name: 'calls after resume', run: everydayCalls }

/** Suspend to disk on a machine whose firmware does at every boot what it did at the last. */
export const hibernate: Scenario = {
  name: 'hibernate',
  title: 'saved to disk, switched off and on, brought back by another kernel, calls again',
  steps: [
    ...before,
    {
      name: 'hibernate and resume',
      run: (context) => {
        context.hibernate()
      },
    },
    after,
  ],
}

/** The same on a machine whose firmware does not: its runtime memory is elsewhere. */
export const hibernateDrift: Scenario = {
  name: 'hibernate-drift',
  title: 'as hibernate, with the runtime regions 64 KiB lower at the second boot',
  steps: [
    ...before,
    {
      name: 'hibernate and resume where the map has moved',
      run: (context) => {
        context.hibernate({ drift: true })
      },
    },
    after,
  ],
}
