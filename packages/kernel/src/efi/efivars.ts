import { VariableAttribute } from '@trapdoor/uefi'
import { KernelHang } from '../error.ts'
import type { Kernel } from '../kernel.ts'
import { EfiServices } from './services.ts'

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

/** efi_dummy_name and EFI_DUMMY_GUID: a variable that makes firmware collect its garbage. */
const DUMMY = { name: 'DUMMY', guid: '4424ac57-be4b-47dd-9e97-ed50f09f92a9' } as const
const DUMMY_ATTRIBUTES =
  VariableAttribute.NON_VOLATILE |
  VariableAttribute.BOOTSERVICE_ACCESS |
  VariableAttribute.RUNTIME_ACCESS

/**
 * efi_delete_dummy_variable() (arch/x86/platform/efi/quirks.c, Linux 3.10 and later): the first call of a service in virtual mode, and not through the queue of later kernels, so that a fault in here is
 * nobody's to recover from.
 */
export function deleteDummyVariable(kernel: Kernel): void {
  new EfiServices(kernel, kernel.bootCpu, 'kmalloc')
    .setVariable(DUMMY.name, DUMMY.guid, DUMMY_ATTRIBUTES, new Uint8Array(0))
    .run()
}
