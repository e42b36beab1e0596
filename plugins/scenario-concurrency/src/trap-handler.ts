import type { Scenario } from '@trapdoor/harness'
import { bootStep } from '@trapdoor/scenario-lifecycle'

/** Floating-point traps of a numerical program: the calls that made ia64's maintainers refuse physical mode. */
const TRAPS = 1_000_000

/**
 * Firmware that is called from a trap handler, as FPSWA of ia64 is for every floating-point operation that the CPU leaves to software: what a strategy's entry and exit cost is
 * paid a million times.
 */
export const trapHandler: Scenario = {
  name: 'trap-handler',
  title: 'a million calls from a trap handler, interrupts off, priced and not run',
  steps: [
    bootStep,
    {
      name: 'traps',
      run: (context) => {
        const { bootCpu } = context.kernel
        // A trap gate clears nothing, but the handler of a fault that firmware mends runs with interrupts off.
        bootCpu.interruptFlag = false
        context.priceOf(() => context.services('stack').getTime(), TRAPS)
        bootCpu.interruptFlag = true
      },
    },
    {
      name: 'page tables',
      run: (context) => {
        context.inspectTables()
        context.call(context.services('stack').getTime())
      },
    },
  ],
}
