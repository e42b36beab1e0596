import type { FirmwareCall, FirmwareSetup, LoadedDriver, Quirk } from '@trapdoor/firmware'
import { descriptorEnd, MemoryAttribute } from '@trapdoor/uefi'

const IMAGE = 'BadRuntimeDriver'
/** Slot with the address that the driver has kept from the time it was loaded. */
const KEPT = 'kept'
const OLD_SET_VARIABLE = 'OldSetVariable'
const OLD_QUERY_VARIABLE_INFO = 'OldQueryVariableInfo'
/** First character of the names that a late variant waits for. */
const LATE_NAMES = 'P'.charCodeAt(0)

/** What the driver does in SetVariable and QueryVariableInfo before it calls the functions that were there. */
export interface Fault {
  /** Where the kept address comes from, at load time. */
  readonly keep?: (setup: FirmwareSetup, driver: LoadedDriver) => number
  /** Runs in every call at run time. `kept` is the kept address as it is then. */
  readonly misbehave?: (call: FirmwareCall, kept: bigint) => void
}

/** One way in which the driver was built. */
export interface Variant extends Fault {
  readonly id: string
  readonly name: string
  readonly title: string
  /** Misbehave only in SetVariable for names that begin with P, which kernels do not set while they boot. */
  readonly late?: true
  /** What the driver does about the memory attributes table, which says that its code is not to be executed. Default: drops that. */
  readonly attributes?: 'as-is' | 'hide-table'
  /** What it converts in SetVirtualAddressMap: the addresses of the functions that it replaced, its kept address too, or nothing. Default `functions`. */
  readonly converts?: 'functions' | 'all' | 'nothing'
  /** Runs in place of SetVirtualAddressMap; `old` calls that. */
  readonly svam?: (call: FirmwareCall, kept: bigint, old: () => bigint) => bigint
}

/** The driver as a quirk: loaded after EndOfDxe from a shell, it puts itself before two services. */
export function badDriver(variant: Variant): Quirk {
  return {
    id: variant.id,
    name: variant.name,
    title: variant.title,
    sources: ['a runtime driver that was run under OVMF 2022.11 and Linux 6.1 and 6.12'],
    hooks: {
      powerOn: (setup) => {
        load(setup, variant)
      },
      memoryAttributes: (entries, setup) => {
        if (variant.attributes === 'as-is') return entries
        if (variant.attributes === 'hide-table') return []
        const base = setup.imageBase(IMAGE)
        return entries.map((entry) =>
          entry.physicalStart <= base && base < descriptorEnd(entry)
            ? { ...entry, attribute: entry.attribute & ~MemoryAttribute.XP }
            : entry,
        )
      },
    },
  }
}

function load(setup: FirmwareSetup, variant: Variant): void {
  const driver = setup.loadDriver(IMAGE)
  const options = { convert: variant.converts !== 'nothing' }
  driver.pointer(KEPT, variant.keep?.(setup, driver) ?? 0, { convert: variant.converts === 'all' })
  const setVariable = driver.code('HookSetVariable', 'SetVariable', (call) => {
    const firstCharacter = variant.late === undefined ? LATE_NAMES : call.read16(call.arg(0))
    if (firstCharacter === LATE_NAMES) misbehave(call, variant)
    return call.call(call.pointer(OLD_SET_VARIABLE), ...call.args)
  })
  driver.pointer(OLD_SET_VARIABLE, setup.replaceService('SetVariable', setVariable), options)
  const query = driver.code('HookQueryVariableInfo', 'QueryVariableInfo', (call) => {
    if (variant.late === undefined) misbehave(call, variant)
    return call.call(call.pointer(OLD_QUERY_VARIABLE_INFO), ...call.args)
  })
  driver.pointer(OLD_QUERY_VARIABLE_INFO, setup.replaceService('QueryVariableInfo', query), options)
  const { svam } = variant
  if (svam === undefined) return
  const hook = driver.code('HookSetVirtualAddressMap', 'SetVirtualAddressMap', (call) => {
    const old = call.pointer('OldSetVirtualAddressMap')
    return svam(call, call.pointer(KEPT), () => call.call(old, ...call.args))
  })
  driver.pointer(
    'OldSetVirtualAddressMap',
    setup.replaceService('SetVirtualAddressMap', hook),
    options,
  )
}

function misbehave(call: FirmwareCall, { misbehave: fault }: Variant): void {
  if (isAtRuntime(call)) fault?.(call, call.pointer(KEPT))
}

/** The word that the driver's ExitBootServices event has set. */
function isAtRuntime(call: FirmwareCall): boolean {
  return call.read64(call.pointer('globals')) !== 0n
}

/** Adds one to the word at an address. */
export function touch(call: FirmwareCall, address: bigint): void {
  call.write64(address, call.read64(address) + 1n)
}
