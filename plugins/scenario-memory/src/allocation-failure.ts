import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import type { PreparedCall } from '@trapdoor/kernel'
import { everydayStep } from '@trapdoor/scenario-lifecycle'
import { EfiStatus } from '@trapdoor/uefi'

/** Makes a call, and tells of it where it fails. */
function callQuietly<T>(context: ScenarioContext, prepared: PreparedCall<T>): void {
  prepared.call?.run()
  if (prepared.call === undefined || prepared.call.status === EfiStatus.SUCCESS) prepared.finish()
  else context.record(prepared)
}

/** Each allocation of the setup fails once, on a machine of its own. */
export const allocationFailure: Scenario = {
  name: 'allocation-failure',
  title:
    'boots once for every allocation that setting up the runtime services makes, and that one fails',
  steps: [
    {
      name: 'boot with memory enough',
      run: (context) => {
        context.boot()
      },
    },
    everydayStep,
    {
      name: 'a boot for every allocation',
      run: (context) => {
        const count = context.kernel.efiAllocations
        for (let failedAllocation = 1; failedAllocation <= count; failedAllocation++) {
          context.powerOn()
          context.boot({ failedAllocation })
          callQuietly(context, context.services().getTime())
          callQuietly(context, context.services().getNextVariableName())
        }
        context.note('failed allocations', `the kernel lives on after each of ${count}`)
      },
    },
  ],
}
