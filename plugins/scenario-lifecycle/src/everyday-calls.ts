import type { ScenarioContext } from '@trapdoor/harness'
import { Guid, VariableAttribute } from '@trapdoor/uefi'

/** Attributes of a variable that a running system sets and the next boot still has. */
export const KEPT: number =
  VariableAttribute.NON_VOLATILE |
  VariableAttribute.BOOTSERVICE_ACCESS |
  VariableAttribute.RUNTIME_ACCESS

/** Whether two byte strings are equal. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index])
}

/** What a running system asks of its firmware every day: the time, and a variable written and read back. */
export function everydayCalls(context: ScenarioContext): void {
  const services = context.services()
  context.call(services.getTime(), (time) => time.year >= 1998 && time.month >= 1)
  const written = new TextEncoder().encode(`written by the ${context.kernel.name}`)
  context.call(services.setVariable('TrapdoorProbe', Guid.LINUX_CRASH, KEPT, written))
  context.call(services.getVariable('TrapdoorProbe', Guid.LINUX_CRASH), (value) =>
    sameBytes(value.data, written),
  )
}
