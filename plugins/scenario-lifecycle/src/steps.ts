import type { ScenarioStep } from '@trapdoor/harness'
import { everydayCalls } from './everyday-calls.ts'

// Scenarios that begin with the same steps share them: cases run these once, up to where they part.

/** The first kernel boots. */
export const bootStep: ScenarioStep = {
  name: 'boot',
  run: (context) => {
    context.boot()
  },
}

/** The first kernel boots, and reserves memory for a crash kernel. */
export const bootWithCrashKernelStep: ScenarioStep = {
  name: 'boot with memory for a crash kernel',
  run: (context) => {
    context.boot({ commandLine: 'crashkernel=64M' })
  },
}

/** {@link everydayCalls} of the kernel that runs. */
export const everydayStep: ScenarioStep = {
  name: 'everyday calls',
  anyStrategy: true,
  run: everydayCalls,
}
