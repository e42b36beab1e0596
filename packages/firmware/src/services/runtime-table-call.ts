import type { Machine } from '@trapdoor/core'
import { argumentWords, type RuntimeServiceName } from '@trapdoor/uefi'
import type { RuntimeImage } from '../layout/image.ts'
import type { FirmwareCall } from '../quirk/firmware-call.ts'
import { GLOBALS_SLOT } from './at-runtime.ts'
import { NV_BS_RT, type Variable } from './variable-store.ts'

/** Calls a runtime service as a driver calls another's: through its own pointer to the runtime table. Returns the status. */
export function callThroughRuntimeTable(
  call: FirmwareCall,
  service: RuntimeServiceName,
  ...args: readonly bigint[]
): bigint {
  const table = call.pointer('gRT')
  const { architecture } = call
  const { [service]: offset } = architecture.tables.runtimeServicesTable
  const address = call.readNatural(table + BigInt(offset))
  return call.call(address, ...argumentWords(architecture, service, args))
}

/** Where a driver keeps the one variable that it writes, in its data words. */
const OwnVariable = { Name: 0x40, Vendor: 0x80, Data: 0x90 } as const

/** Puts the name of the variable that a driver writes into its data. */
export function keepVariableName(
  machine: Machine,
  image: RuntimeImage,
  { name, vendor }: Pick<Variable, 'name' | 'vendor'>,
): void {
  machine.memory.write(image.data + OwnVariable.Name, name)
  machine.memory.write(image.data + OwnVariable.Vendor, vendor)
}

/** Writes the variable that the running driver keeps the name of, through the runtime table. Returns SetVariable's status. */
export function setOwnVariable(call: FirmwareCall, data: Uint8Array): bigint {
  const globals = call.pointer(GLOBALS_SLOT)
  const dataAt = globals + BigInt(OwnVariable.Data)
  call.writeBytes(dataAt, data)
  return callThroughRuntimeTable(
    call,
    'SetVariable',
    globals + BigInt(OwnVariable.Name),
    globals + BigInt(OwnVariable.Vendor),
    BigInt(NV_BS_RT),
    BigInt(data.length),
    dataAt,
  )
}
