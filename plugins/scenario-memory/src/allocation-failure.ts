import { isSample, type Scenario, type ScenarioContext } from '@trapdoor/harness'
import type { PreparedCall } from '@trapdoor/kernel'
import { bootStep, everydayStep } from '@trapdoor/scenario-lifecycle'
import { EfiStatus } from '@trapdoor/uefi'

/** Allocations that all fail once; of those behind ever fewer. No strategy but those that map all memory in pages of 4 KiB makes as many. */
const DENSE_ALLOCATIONS = 128

/** Makes a call, and tells of it where it fails. */
function callQuietly<T>(context: ScenarioContext, prepared: PreparedCall<T>): void {
  prepared.call?.run()
  if (prepared.call === undefined || prepared.call.status === EfiStatus.SUCCESS) prepared.finish()
  else context.record(prepared)
}

/** Boots a machine of its own with each of `count` allocations failing in turn, and says what came of them. */
function failEach(context: ScenarioContext): void {
  const count = context.kernel.efiAllocations
  const ends = { 'lives on': 0, 'goes without EFI': 0, dies: 0 }
  let boots = 0
  for (let failedAllocation = 1; failedAllocation <= count; failedAllocation++) {
    if (!isSample(failedAllocation, DENSE_ALLOCATIONS)) continue
    boots++
    const lived = context.afresh(() => {
      context.boot({ failedAllocation })
      callQuietly(context, context.services().getTime())
      callQuietly(context, context.services().getNextVariableName())
    })
    if (!lived) ends.dies++
    else ends[context.kernel.efiRefusal === undefined ? 'lives on' : 'goes without EFI']++
  }
  const of = boots === count ? `of ${count}` : `of ${count}, ${boots} tried`
  const told = Object.entries(ends).map(([end, times]) => `${end} after ${times}`)
  context.note('failed allocations', `${of}: the kernel ${told.join(', ')}`)
}

/** Each allocation of the setup fails once, on a machine of its own. */
export const allocationFailure: Scenario = {
  name: 'allocation-failure',
  title:
    'boots once for every allocation that setting up the runtime services makes, and that one fails',
  steps: [bootStep, everydayStep, { name: 'a boot for every allocation', run: failEach }],
}
