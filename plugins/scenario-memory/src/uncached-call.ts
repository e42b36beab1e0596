import type { ScenarioContext } from '@trapdoor/harness'
import type { PreparedCall } from '@trapdoor/kernel'

/**
 * A call that finds no translations but those of its own tables: the kernel has just written the arguments, and the global translations that it did this by would reach them through any tables, as
 * long as the processor keeps them. It may drop any at any time (Intel SDM Vol. 3, 4.10.2.3).
 */
export function callUncached<T>(context: ScenarioContext, prepared: PreparedCall<T>): void {
  const { call } = prepared
  call?.enter()
  call?.cpu.mmu.flushAll()
  call?.execute()
  call?.leave()
  context.record(prepared)
}
