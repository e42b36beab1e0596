import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import { KernelPanic, takeInterrupt } from '@trapdoor/kernel'
import { Guid } from '@trapdoor/uefi'
import { everydayCalls, KEPT } from './everyday-calls.ts'
import { bootWithCrashKernelStep, everydayStep } from './steps.ts'

/** Accesses of the firmware after which the NMI comes: SetVariable is under way then, and has not written its record. */
const ACCESSES_BEFORE_NMI = 12

/** An NMI handler panics while the firmware is in the middle of SetVariable. */
function crashInsideCall(context: ScenarioContext): void {
  const data = new TextEncoder().encode('never finished')
  const prepared = context.services().setVariable('TrapdoorCrash', Guid.LINUX_CRASH, KEPT, data)
  const { call } = prepared
  if (call === undefined) return
  call.enter()
  call.interruptAfter(ACCESSES_BEFORE_NMI, ({ kernel, cpu }) => {
    takeInterrupt(kernel, cpu, 'NMI', () => {
      kernel.print('Kernel panic - not syncing: NMI: hard LOCKUP')
      throw new NmiPanic('NMI: hard LOCKUP inside SetVariable')
    })
  })
  try {
    call.execute()
  } catch (error) {
    if (!(error instanceof NmiPanic)) throw error
    return
  }
  // The call was shorter than that: the panic comes right after it.
  context.kernel.print('Kernel panic - not syncing: NMI: hard LOCKUP')
}

class NmiPanic extends KernelPanic {}

/** A crash inside a runtime call, and the crash kernel that saves the dump. */
export const kdump: Scenario = {
  name: 'kdump',
  title: 'boots, crashes inside SetVariable, boots the crash kernel, calls from there',
  steps: [
    bootWithCrashKernelStep,
    everydayStep,
    { name: 'crash inside SetVariable', run: crashInsideCall },
    {
      name: 'boot the crash kernel',
      run: (context) => {
        if (context.kernel.crashRegion === undefined) {
          throw new KernelPanic('no crash kernel is loaded: there was no memory to reserve for it')
        }
        context.crashKexec()
      },
    },
    { name: 'calls in the crash kernel', run: everydayCalls },
  ],
}
