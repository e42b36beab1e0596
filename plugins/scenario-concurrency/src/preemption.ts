import { isSample, type Scenario } from '@trapdoor/harness'
import { preempt } from '@trapdoor/kernel'
import { bootStep, KEPT } from '@trapdoor/scenario-lifecycle'
import { Guid } from '@trapdoor/uefi'
import { DENSE_POINTS } from './interrupts.ts'

/** A timer interrupt in the middle of a call gives the CPU to another process, where the kernel lets it; in machine code at each of the first accesses and ever fewer of the others. */
export const preemption: Scenario = {
  name: 'preemption',
  title: 'the scheduler takes the CPU away at every memory access of SetVariable, where it may',
  steps: [
    bootStep,
    {
      name: 'preempted calls',
      run: (context) => {
        const data = new TextEncoder().encode('preempted')
        const prepared = context
          .services()
          .setVariable('TrapdoorPreempted', Guid.LINUX_CRASH, KEPT, data)
        const { call } = prepared
        if (call === undefined) return
        let times = 0
        call.enter()
        call.interruptEach((accesses) => {
          if (isSample(accesses, DENSE_POINTS) && preempt(call.kernel, call.cpu)) times++
        })
        call.execute()
        call.leave()
        context.record(prepared)
        context.note('preemption', times === 0 ? 'not allowed inside calls' : `${times} times`)
      },
    },
  ],
}
