import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import { growVmalloc, loadModules } from '@trapdoor/kernel'
import { bootStep, everydayStep } from '@trapdoor/scenario-lifecycle'
import { Guid } from '@trapdoor/uefi'
import { callUncached } from './uncached-call.ts'

function callFrom(context: ScenarioContext, place: 'vmalloc' | 'module'): void {
  callUncached(context, context.services(place).getVariable('TrapdoorProbe', Guid.LINUX_CRASH))
}

/** A kernel that has run for long: modules and vmalloc space lie where there was nothing when the runtime services were set up. */
export const growth: Scenario = {
  name: 'growth',
  title: 'vmalloc and module space grow after setup, arguments lie in what is new',
  steps: [
    bootStep,
    everydayStep,
    {
      name: 'modules far from the first ones',
      run: (context) => {
        loadModules(context.kernel)
        callFrom(context, 'module')
      },
    },
    {
      name: 'vmalloc space behind a new root entry',
      run: (context) => {
        growVmalloc(context.kernel)
        callFrom(context, 'vmalloc')
      },
    },
  ],
}
