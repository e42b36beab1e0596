import type { Scenario } from '@trapdoor/harness'
import { everydayStep } from './steps.ts'

/** A call before the runtime services are set up, as kernels made it for the time of day, and the same call afterwards. */
export const earlyCall: Scenario = {
  name: 'early-call',
  title: 'asks the time before the runtime services are set up, and again after',
  steps: [
    {
      name: 'boot, with an early call',
      run: (context) => {
        context.boot({
          early: (booting) => {
            booting.call(booting.earlyServices().getTime(), (time) => time.year >= 1998)
          },
        })
      },
    },
    everydayStep,
  ],
}
