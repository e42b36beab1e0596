import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import { type EfiTime, Guid, ResetType } from '@trapdoor/uefi'
import { KEPT, sameBytes } from './everyday-calls.ts'
import { bootStep, everydayStep } from './steps.ts'

/** A moment of the summer of 2010. */
const SUMMER: EfiTime = {
  year: 2010,
  month: 8,
  day: 16,
  hour: 9,
  minute: 30,
  second: 12,
  nanosecond: 0,
  timeZone: 2047,
  daylight: 0,
}
/** CAPSULE_FLAGS_PERSIST_ACROSS_RESET: the capsule waits in memory for a reset, the one kind that works at run time. */
const PERSIST_ACROSS_RESET = 0x1_0000
const CAPSULE = 'b122a262-3551-4f48-8892-55f6c0614290'

function timeServices(context: ScenarioContext): void {
  const services = context.services('stack')
  context.call(services.setTime(SUMMER))
  context.call(
    services.getTime(),
    (time) => time.year === SUMMER.year && time.day === SUMMER.day && time.second === SUMMER.second,
  )
  context.call(services.setWakeupTime({ ...SUMMER, hour: 10 }))
  context.call(
    services.getWakeupTime(),
    ({ enabled, time }) => enabled && time.hour === 10 && time.minute === SUMMER.minute,
  )
}

/** Each kind of kernel memory that arguments may lie in. */
function variableServices(context: ScenarioContext): void {
  for (const place of ['kmalloc', 'module', 'vmalloc'] as const) {
    const services = context.services(place)
    const data = new TextEncoder().encode(`argument in ${place} memory`)
    const name = `Trapdoor-${place}`
    context.call(services.setVariable(name, Guid.LINUX_CRASH, KEPT, data))
    context.call(services.getVariable(name, Guid.LINUX_CRASH), (value) =>
      sameBytes(value.data, data),
    )
  }
  const services = context.services('kmalloc')
  context.call(services.getNextVariableName(), ({ name }) => name !== '')
  context.call(services.queryVariableInfo(KEPT), (space) => space.maximumStorage > 0n)
}

function otherServices(context: ScenarioContext): void {
  const services = context.services('stack')
  context.call(services.getNextHighMonotonicCount(), (count) => count > 0)
  context.callIfSupported(services.queryCapsuleCapabilities(CAPSULE, PERSIST_ACROSS_RESET))
  context.callIfSupported(services.updateCapsule(CAPSULE, PERSIST_ACROSS_RESET))
}

/** Two CPUs are inside the firmware at once: in, in, out, out. Where a lock keeps the second out, it goes in when the first is out. */
function interleavedCalls(context: ScenarioContext): void {
  const first = context.services('stack', 0).getTime()
  const second = context.services('stack', 1).getVariable('TrapdoorProbe', Guid.LINUX_CRASH)
  first.call?.enter()
  if (second.call?.mayEnter === false) {
    first.call?.execute()
    first.call?.leave()
    second.call.run()
  } else {
    second.call?.enter()
    for (const prepared of [first, second]) prepared.call?.execute()
    for (const prepared of [first, second]) prepared.call?.leave()
  }
  context.record(first)
  context.record(second)
}

function nullDereference(context: ScenarioContext): void {
  const prepared = context.services().getTime()
  prepared.call?.enter()
  prepared.call?.dereferenceNull()
  prepared.call?.execute()
  prepared.call?.leave()
  context.record(prepared)
}

/** Every runtime service from a running system with two CPUs. */
export const services: Scenario = {
  name: 'services',
  title: 'every runtime service, two CPUs inside at once, a NULL dereference inside, a reset',
  cpus: 2,
  steps: [
    bootStep,
    everydayStep,
    { name: 'time services', run: timeServices },
    { name: 'variables, arguments everywhere', run: variableServices },
    { name: 'monotonic count and capsules', run: otherServices },
    { name: 'two CPUs inside at once', run: interleavedCalls },
    { name: 'a NULL dereference inside a call', run: nullDereference },
    {
      name: 'warm reset',
      run: (context) => {
        context.expectReset(context.services().resetSystem(ResetType.Warm))
      },
    },
  ],
}
