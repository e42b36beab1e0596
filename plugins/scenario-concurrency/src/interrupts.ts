import { isSample, type Scenario, type ScenarioContext } from '@trapdoor/harness'
import { type PreparedCall, takeInterrupt } from '@trapdoor/kernel'
import { bootStep, KEPT } from '@trapdoor/scenario-lifecycle'
import { Guid } from '@trapdoor/uefi'

/** Points of a call that are all interrupted; of those behind ever fewer. */
export const DENSE_POINTS = 1000

/** Makes a call, with an NMI, a machine check and, where they are on, a timer interrupt before every access to memory, of the firmware and of what switches to it and back, and between these. */
function interrupted<T>(context: ScenarioContext, prepared: PreparedCall<T>): void {
  const { call } = prepared
  if (call === undefined) return
  const interrupt = (): void => {
    // What a handler finds must not hang on what the TLB still holds: a processor may drop any translation at any time (SDM Vol. 3, 4.10.2.3).
    call.cpu.mmu.flushAll()
    takeInterrupt(call.kernel, call.cpu, 'NMI')
    takeInterrupt(call.kernel, call.cpu, 'machine check')
    if (call.cpu.interruptFlag) takeInterrupt(call.kernel, call.cpu, 'timer')
  }
  call.interruptSwitches(interrupt)
  interrupt()
  call.enter()
  interrupt()
  call.interruptEach((accesses) => {
    if (isSample(accesses, DENSE_POINTS)) interrupt()
  })
  call.execute()
  interrupt()
  call.leave()
  interrupt()
  context.record(prepared)
}

/** Whatever can interrupt a kernel does so at every point of three calls; in machine code at each of the first points and ever fewer of the others. */
export const interrupts: Scenario = {
  name: 'interrupts',
  title:
    'NMI, machine check and timer interrupt at every memory access of GetTime, SetVariable and GetVariable, and of the way in and out',
  steps: [
    bootStep,
    {
      name: 'interrupts inside calls',
      run: (context) => {
        const services = context.services()
        const data = new TextEncoder().encode('interrupted')
        interrupted(context, services.getTime())
        interrupted(
          context,
          services.setVariable('TrapdoorInterrupted', Guid.LINUX_CRASH, KEPT, data),
        )
        interrupted(context, services.getVariable('TrapdoorInterrupted', Guid.LINUX_CRASH))
      },
    },
  ],
}
