import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import { addMemory, cpuUp } from '@trapdoor/kernel'
import { everydayStep } from '@trapdoor/scenario-lifecycle'
import { Guid } from '@trapdoor/uefi'
import { callUncached } from './uncached-call.ts'

function callsFromBoth(context: ScenarioContext): void {
  for (const { id } of context.kernel.onlineCpus) {
    const services = context.services('kmalloc', id)
    callUncached(context, services.getVariable('TrapdoorProbe', Guid.LINUX_CRASH))
  }
}

/** A CPU and memory that come when the runtime services are set up already. */
export const hotplug: Scenario = {
  name: 'hotplug',
  title: 'boots with one CPU, a second comes up, memory is added, arguments lie in it',
  cpus: 2,
  steps: [
    {
      name: 'boot with one CPU',
      run: (context) => {
        context.boot({ commandLine: 'maxcpus=1' })
      },
    },
    everydayStep,
    {
      name: 'a CPU comes up',
      run: ({ kernel, machine }) => {
        cpuUp(kernel, machine.cpus[1]!)
      },
    },
    { name: 'calls from both', run: callsFromBoth },
    {
      name: 'memory is added',
      run: ({ kernel }) => {
        addMemory(kernel)
      },
    },
    { name: 'calls with arguments in it', run: callsFromBoth },
  ],
}
