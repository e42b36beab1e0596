import type { EfiServices, PreparedCall } from '@trapdoor/kernel'
import {
  EfiStatus,
  efiStatusName,
  type EfiTime,
  ResetType,
  VariableAttribute,
} from '@trapdoor/uefi'

import type { MadeCall, Session } from './session.ts'

const VENDOR = '12345678-1234-5678-9abc-def011223344'
const BOOT_ORDER = { name: 'BootOrder', guid: '8be4df61-93ca-11d2-aa0d-00e098032b8c' }
const { NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS, APPEND_WRITE } = VariableAttribute
const VOLATILE = BOOTSERVICE_ACCESS | RUNTIME_ACCESS
const KEPT = NON_VOLATILE | VOLATILE
/** What a variable holds that is written in two pieces. */
const DATA = Uint8Array.from({ length: 56 }, (_, at) => at)
const FIRST_BYTES = 40
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
/** More variables than any firmware has. */
const MOST_VARIABLES = 1000

/** A call that was made, and what of its results is not as it ought to be. */
export interface Made {
  readonly name: string
  readonly call: MadeCall
  /** Whether it is made again on QEMU under every strategy, or under a few. */
  readonly isAlways: boolean
  /** What the kernel read of its results. */
  readonly value?: unknown
  readonly surprise?: string | undefined
}

/** A call to be made. */
export interface Step {
  readonly name: string
  /** Undefined where the firmware was not entered. */
  readonly run: (session: Session) => Made | undefined
}

interface Expected<T> {
  /** See {@link Made}. Default: true. */
  readonly isAlways?: boolean
  /** Default: EFI_SUCCESS. */
  readonly status?: bigint
  readonly holds?: (value: T) => boolean
}

function step<T>(
  name: string,
  prepare: (services: EfiServices) => PreparedCall<T>,
  expected: Expected<T> = {},
): Step {
  return {
    name,
    run: (session) => {
      const answer = session.make(prepare)
      if (answer === undefined) return undefined
      const { call, result } = answer
      const { isAlways = true } = expected
      const surprise = result && surpriseOf(result, expected)
      return { name, call, isAlways, value: result?.value, surprise }
    },
  }
}

function surpriseOf<T>(
  { status, value }: { readonly status: bigint; readonly value: T | undefined },
  expected: Expected<T>,
): string | undefined {
  const { status: wanted = EfiStatus.SUCCESS, holds } = expected
  if (status !== wanted) return `${efiStatusName(status)}, where ${efiStatusName(wanted)} was due`
  if (value === undefined || holds === undefined || holds(value)) return undefined
  return 'a result is not what was written'
}

const WRITTEN = step(
  'GetVariable, of what was written',
  (services) => services.getVariable('Twin', VENDOR),
  {
    holds: ({ attributes, data }) => attributes === KEPT && Buffer.from(DATA).equals(data),
  },
)

/** Calls of a running system, in an order in which each finds what it needs. */
export const STEPS: readonly Step[] = [
  step('GetTime', (services) => services.getTime(), { isAlways: false }),
  step('SetTime', (services) => services.setTime(SUMMER)),
  step('GetTime, after SetTime', (services) => services.getTime(), {
    holds: ({ year, month, day, hour, minute, second }) =>
      new Date(Date.UTC(year, month - 1, day, hour, minute, second)).toISOString() ===
      '2010-08-16T09:30:12.000Z',
  }),
  step('GetVariable', (services) => services.getVariable(BOOT_ORDER.name, BOOT_ORDER.guid), {
    isAlways: false,
  }),
  step('SetVariable', (services) =>
    services.setVariable('Twin', VENDOR, KEPT, DATA.subarray(0, FIRST_BYTES)),
  ),
  step('SetVariable, append', (services) =>
    services.setVariable('Twin', VENDOR, KEPT | APPEND_WRITE, DATA.subarray(FIRST_BYTES)),
  ),
  WRITTEN,
  step(
    'SetVariable, volatile',
    (services) => services.setVariable('TwinForAWhile', VENDOR, VOLATILE, DATA),
    // At run time there are no new ones.
    { status: EfiStatus.INVALID_PARAMETER, isAlways: false },
  ),
  step(
    'SetVariable, another',
    (services) => services.setVariable('TwinForAWhile', VENDOR, KEPT, DATA),
    { isAlways: false },
  ),
  step('SetVariable, delete', (services) =>
    services.setVariable('TwinForAWhile', VENDOR, KEPT, new Uint8Array(0)),
  ),
  step(
    'GetVariable, of what was deleted',
    (services) => services.getVariable('TwinForAWhile', VENDOR),
    { status: EfiStatus.NOT_FOUND, isAlways: false },
  ),
  step('GetNextVariableName', (services) => services.getNextVariableName(BOOT_ORDER), {
    isAlways: false,
  }),
  step('QueryVariableInfo', (services) => services.queryVariableInfo(KEPT), {
    holds: ({ remainingStorage, maximumStorage }) => remainingStorage < maximumStorage,
  }),
  step('GetNextHighMonotonicCount', (services) => services.getNextHighMonotonicCount()),
]

/** What a system does first that was restarted. */
export const STEPS_AFTER_RESTART: readonly Step[] = [
  WRITTEN,
  step('GetNextHighMonotonicCount', (services) => services.getNextHighMonotonicCount(), {
    isAlways: false,
  }),
  step('SetVariable', (services) => services.setVariable('TwinAgain', VENDOR, KEPT, DATA), {
    isAlways: false,
  }),
  step('GetVariable', (services) => services.getVariable('TwinAgain', VENDOR), {
    isAlways: false,
    holds: ({ data }) => Buffer.from(DATA).equals(data),
  }),
]

/** What a system does last: one of these. */
export const RESETS: readonly Step[] = (['Cold', 'Warm', 'Shutdown'] as const).map((type) =>
  step(`ResetSystem, ${type}`, (services) => services.resetSystem(ResetType[type])),
)

/** A step by its name. */
export function stepNamed(name: string): Step {
  const found = STEPS.find((each) => each.name === name)
  if (found === undefined) throw new RangeError(`no call is named ${name}`)
  return found
}

/** Lists all variables, call by call; the last one says that there are no more. */
export function* listVariables(session: Session): Generator<Made & { readonly isLast: boolean }> {
  let previous: { readonly name: string; readonly guid: string } | undefined
  for (let count = 1; count <= MOST_VARIABLES; count++) {
    const from = previous
    const answer = session.make((services) => services.getNextVariableName(from))
    if (answer === undefined) return
    const { call, result } = answer
    const isLast = result?.value === undefined
    const surprise =
      isLast && result !== undefined
        ? surpriseOf(result, { status: EfiStatus.NOT_FOUND })
        : undefined
    yield { name: `GetNextVariableName, number ${count}`, call, isAlways: true, surprise, isLast }
    if (isLast) return
    previous = result.value
  }
}
