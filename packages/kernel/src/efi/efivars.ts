import { KernelHang } from '../error.ts'
import type { Kernel } from '../kernel.ts'
import type { EfiServices } from './services.ts'

/** A variable by its name. */
export interface VariableName {
  readonly name: string
  readonly guid: string
}

/** Names after which it is clear that there will be no end: more than any firmware has room for. */
const MOST_NAMES = 1024

/**
 * efivar_init() (fs/efivarfs/vars.c; drivers/firmware/efivars.c before): asks for one name after the other until the firmware says that there are no more. With
 * `detectsDuplicateNames` of the strategy a name that was there already is the last (variable_is_present() of Linux 3.9 and later). Returns the names; throws
 * {@link KernelHang} where they never end.
 */
export function efivarInit(kernel: Kernel, services: EfiServices): VariableName[] {
  const names: VariableName[] = []
  const known = new Set<string>()
  const stopsAtDuplicates = kernel.strategy?.instance.detectsDuplicateNames === true
  for (;;) {
    const next = services.getNextVariableName(names.at(-1)).run().value
    if (next === undefined) return names
    const key = `${next.name}-${next.guid}`
    if (known.has(key) && stopsAtDuplicates) {
      kernel.print(`efivars: duplicate variable: ${key}`)
      return names
    }
    if (names.length === MOST_NAMES) {
      const message = `soft lockup: efivar_init() gets ${key} for ever`
      kernel.print(`BUG: ${message}`)
      throw new KernelHang(message)
    }
    known.add(key)
    names.push(next)
  }
}
