import type { Scenario } from '@trapdoor/harness'
import { suspendToRam } from '@trapdoor/kernel'
import { bootStep, everydayCalls, everydayStep } from '@trapdoor/scenario-lifecycle'

/** Sleep and wakeup: firmware keeps its memory and hears nothing of it, the kernel comes back through its trampoline. */
export const suspend: Scenario = {
  name: 'suspend',
  title: 'two CPUs, suspend to RAM, wakeup through the trampoline below 1 MiB, calls from both',
  cpus: 2,
  steps: [
    bootStep,
    everydayStep,
    {
      name: 'suspend and resume',
      run: ({ kernel }) => {
        suspendToRam(kernel)
      },
    },
    { name: 'calls after resume', run: everydayCalls },
    {
      name: 'a call from the other CPU',
      run: (context) => {
        context.call(context.services('stack', 1).getTime())
      },
    },
  ],
}
