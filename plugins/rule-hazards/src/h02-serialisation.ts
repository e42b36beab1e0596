import type { Rule } from '@trapdoor/harness'
import type { RuntimeCall } from '@trapdoor/kernel'
import type { RuntimeServiceName } from '@trapdoor/uefi'

/** Services of which no two may run at a time, whoever calls them (UEFI 2.10, 8.1, table 8.1). */
const EXCLUSIVE: readonly ReadonlySet<RuntimeServiceName>[] = [
  new Set([
    'GetVariable',
    'GetNextVariableName',
    'SetVariable',
    'QueryVariableInfo',
    'UpdateCapsule',
    'QueryCapsuleCapabilities',
    'GetNextHighMonotonicCount',
  ]),
  new Set(['GetTime', 'SetTime', 'GetWakeupTime', 'SetWakeupTime']),
]
/** Services in which ResetSystem may not come. */
const NOT_TO_BE_RESET: ReadonlySet<RuntimeServiceName> = new Set([
  'SetVariable',
  'UpdateCapsule',
  'SetTime',
  'SetWakeupTime',
  'GetNextHighMonotonicCount',
])

/** Firmware is not reentrant but where the specification says so. */
export const h02Serialisation: Rule = {
  id: 'H2',
  title: 'Two calls were inside the firmware at once that must not be',
  severity: 'warning',
  advice: 'take a lock around runtime calls, as efi_runtime_lock does since Linux 3.16',
  sources: ['UEFI 2.10, 8.1 "Runtime Services Rules and Restrictions", table 8.1'],
  rewindable: true,
  watch: ({ hooks, report, perKernel }) => {
    const inside = perKernel({
      initial: () => new Set<RuntimeCall>(),
      copy: (calls) => new Set(calls),
    })
    hooks.callEntered.tap('H2', (call) => {
      const calls = inside(call.kernel)
      const other = [...calls].find((each) => !mayOverlap(each.service, call.service))
      calls.add(call)
      if (other === undefined) return
      report(call.kernel, {
        message: `CPU ${call.cpu.id} enters ${call.service} while CPU ${other.cpu.id} is inside ${other.service}`,
        explanation: `The specification lets firmware assume that ${call.service} does not begin before ${other.service} has returned: nothing in it keeps the two apart. What they share, such as the variable store or the clock’s index register, may be left half-written.`,
        call,
        actor: 'kernel',
      })
    })
    hooks.callLeft.tap('H2', (call) => {
      inside(call.kernel).delete(call)
    })
  },
}

function mayOverlap(first: RuntimeServiceName, second: RuntimeServiceName): boolean {
  if (first === 'SetVirtualAddressMap' || second === 'SetVirtualAddressMap') return false
  if (second === 'ResetSystem') return !NOT_TO_BE_RESET.has(first)
  return !EXCLUSIVE.some((group) => group.has(first) && group.has(second))
}
