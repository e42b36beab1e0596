import { isSample, type Scenario, type ScenarioContext } from '@trapdoor/harness'
import { KernelPanic, type PreparedCall, takeInterrupt } from '@trapdoor/kernel'
import { Guid } from '@trapdoor/uefi'
import { everydayCalls, KEPT } from './everyday-calls.ts'
import { bootWithCrashKernelStep, everydayStep } from './steps.ts'

/** Writes of a call that all have a crash before them; of those behind ever fewer. */
const DENSE_WRITES = 64

/** Crash kernels that were booted, how many of them died, and the states of memory that there were. */
interface Crashes {
  states: number
  booted: number
  died: number
}

/** An NMI handler panics: the crash kernel boots and calls, on a copy of the machine. */
function crash<T>(context: ScenarioContext, { call }: PreparedCall<T>, crashes: Crashes): void {
  if (call === undefined) return
  crashes.booted++
  // As in the handler of any interrupt, whatever translations there were may be gone.
  call.cpu.mmu.flushAll()
  takeInterrupt(call.kernel, call.cpu, 'NMI', () => {
    const lived = context.detour(() => {
      context.crashKexec()
      everydayCalls(context)
    })
    if (!lived) crashes.died++
  })
}

/**
 * Makes a call with a crash before every write to memory, of the firmware and of what switches to it and back, and between these: between two writes the crash kernel finds the same memory
 * wherever it was, and so it does where the firmware wrote what was there already. Machine code writes a hundred thousand times: before each of the first writes, and ever fewer of the others.
 */
function crashEverywhere<T>(
  context: ScenarioContext,
  prepared: PreparedCall<T>,
  crashes: Crashes,
): void {
  const { call } = prepared
  if (call === undefined) return
  let writes = 0
  const point = (): void => {
    crashes.states++
    crash(context, prepared, crashes)
  }
  call.interruptSwitches((access) => {
    if (access === 'write') point()
  })
  let found: ScenarioContext['machine']['memory'] | undefined
  call.interruptEach((_, access) => {
    if (access !== 'write') return
    writes++
    const { memory } = context.machine
    if (!isSample(writes, DENSE_WRITES)) crashes.states++
    else if (found === undefined || !memory.isSameAs(found)) {
      point()
      found = memory.fork()
    }
  })
  point()
  call.enter()
  point()
  call.execute()
  point()
  call.leave()
  point()
  context.record(prepared)
}

/** A call that only reads, and one that changes what is kept. */
function crashInsideCalls(context: ScenarioContext): void {
  const { kernel } = context
  if (kernel.efi === undefined) return
  if (kernel.crashRegion === undefined) {
    throw new KernelPanic('no crash kernel is loaded: there was no memory to reserve for it')
  }
  const crashes: Crashes = { states: 0, booted: 0, died: 0 }
  const services = context.services()
  const data = new TextEncoder().encode('finished in the end')
  crashEverywhere(context, services.getTime(), crashes)
  crashEverywhere(
    context,
    services.setVariable('TrapdoorCrash', Guid.LINUX_CRASH, KEPT, data),
    crashes,
  )
  const { states, booted, died } = crashes
  const booting =
    booted === states ? 'one for each state of memory' : `for ${states} states of memory`
  context.note('crash kernels', `${booted} booted, ${booting}; ${died} died`)
}

/** A crash at every point of two runtime calls. */
export const kdumpEverywhere: Scenario = {
  name: 'kdump-everywhere',
  title:
    'crashes at every point of GetTime and SetVariable that makes a difference, and calls from each crash kernel',
  steps: [
    bootWithCrashKernelStep,
    everydayStep,
    { name: 'crashes inside calls', run: crashInsideCalls },
  ],
}
