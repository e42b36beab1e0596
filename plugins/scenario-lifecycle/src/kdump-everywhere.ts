import { isSample, type Scenario, type ScenarioContext } from '@trapdoor/harness'
import { KernelPanic } from '@trapdoor/kernel'
import { Guid } from '@trapdoor/uefi'
import { everydayCalls, KEPT } from './everyday-calls.ts'
import { bootWithCrashKernelStep, everydayStep } from './steps.ts'

/** Writes that all have a crash before them; of those behind ever fewer. */
const DENSE_WRITES = 64

/**
 * Crashes before every write of SetVariable, and after the last: between two writes the crash kernel finds the same memory wherever it was. Machine code writes a hundred thousand times: before
 * each of the first writes, and ever fewer of the others.
 */
function crashEverywhere(context: ScenarioContext): void {
  if (context.kernel.crashRegion === undefined) {
    throw new KernelPanic('no crash kernel is loaded: there was no memory to reserve for it')
  }
  const data = new TextEncoder().encode('finished in the end')
  const prepared = context.services().setVariable('TrapdoorCrash', Guid.LINUX_CRASH, KEPT, data)
  const { call } = prepared
  if (call === undefined) return
  let crashes = 0
  let writes = 0
  const crash = (): void => {
    crashes++
    context.detour(() => {
      context.crashKexec()
      everydayCalls(context)
    })
  }
  call.enter()
  call.interruptEach((_, access) => {
    if (access !== 'write') return
    writes++
    if (isSample(writes, DENSE_WRITES)) crash()
  })
  call.execute()
  crash()
  call.leave()
  context.record(prepared)
  context.note(
    'crash kernels',
    crashes > writes
      ? `${crashes} booted, one for each state of memory`
      : `${crashes} booted, for ${writes + 1} states of memory`,
  )
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
