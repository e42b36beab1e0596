import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import { KernelPanic } from '@trapdoor/kernel'
import { Guid } from '@trapdoor/uefi'
import { everydayCalls, KEPT } from './everyday-calls.ts'
import { bootWithCrashKernelStep, everydayStep } from './steps.ts'

/** Crashes before every write of SetVariable, and after the last: between two writes the crash kernel finds the same memory wherever it was. */
function crashEverywhere(context: ScenarioContext): void {
  if (context.kernel.crashRegion === undefined) {
    throw new KernelPanic('no crash kernel is loaded: there was no memory to reserve for it')
  }
  const data = new TextEncoder().encode('finished in the end')
  const prepared = context.services().setVariable('TrapdoorCrash', Guid.LINUX_CRASH, KEPT, data)
  const { call } = prepared
  if (call === undefined) return
  let crashes = 0
  const crash = (): void => {
    crashes++
    context.detour(() => {
      context.crashKexec()
      everydayCalls(context)
    })
  }
  call.enter()
  call.interruptEach((_, access) => {
    if (access === 'write') crash()
  })
  call.execute()
  crash()
  call.leave()
  context.record(prepared)
  context.note('crash kernels', `${crashes} booted, one for each state of memory`)
}

/** A crash at every point of a runtime call. */
export const kdumpEverywhere: Scenario = {
  name: 'kdump-everywhere',
  title:
    'crashes at every point of SetVariable that makes a difference, and calls from each crash kernel',
  steps: [
    bootWithCrashKernelStep,
    everydayStep,
    { name: 'crashes inside SetVariable', run: crashEverywhere },
  ],
}
