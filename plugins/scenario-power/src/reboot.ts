import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import { bootStep, everydayStep, KEPT, sameBytes } from '@trapdoor/scenario-lifecycle'
import { Guid, ResetType } from '@trapdoor/uefi'

const NAME = 'TrapdoorKept'

/** Writes a variable, resets, and looks for it after the next boot. */
function rebootWith(context: ScenarioContext, type: 'Cold' | 'Warm'): void {
  const data = new TextEncoder().encode(`written before the ${type} reset`)
  context.call(context.services().setVariable(NAME, Guid.LINUX_CRASH, KEPT, data))
  context.expectReset(context.services().resetSystem(ResetType[type]))
  // Where ResetSystem returns, the kernel goes on to other ways, which work.
  context.restart(type === 'Warm' ? 'kept' : 'lost')
  context.boot()
  context.call(context.services().getVariable(NAME, Guid.LINUX_CRASH), (value) =>
    sameBytes(value.data, data),
  )
}

/** Reboots through ResetSystem: each type, and what is in the store afterwards. */
export const reboot: Scenario = {
  name: 'reboot',
  title: 'cold and warm reset with a boot after each, a variable that stays, a shutdown',
  steps: [
    bootStep,
    everydayStep,
    {
      name: 'cold reset',
      run: (context) => {
        rebootWith(context, 'Cold')
      },
    },
    {
      name: 'warm reset',
      run: (context) => {
        rebootWith(context, 'Warm')
      },
    },
    {
      name: 'shutdown',
      run: (context) => {
        context.expectReset(context.services().resetSystem(ResetType.Shutdown))
      },
    },
  ],
}
