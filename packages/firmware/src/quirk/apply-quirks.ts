import { CoreError } from '@trapdoor/core'
import { type Architecture, UefiError } from '@trapdoor/uefi'
import { closest } from 'fastest-levenshtein'
import { FirmwareError } from '../error.ts'
import { createFirmwareHooks, type FirmwareHooks, QUIRK_HOOK_NAMES } from './hooks.ts'
import type { Quirk } from './quirk.ts'

/**
 * Hooks with these quirks tapped, in their order. Throws FIRMWARE_BAD_QUIRK on an unknown hook, a quirk listed twice, or one that firmware of this architecture cannot have.
 */
export function applyQuirks(
  quirks: readonly Quirk[],
  architecture: Architecture['name'],
): FirmwareHooks {
  const hooks = createFirmwareHooks()
  for (const hook of Object.values(hooks)) nameWhatThrows(hook)
  for (const [index, quirk] of quirks.entries()) {
    if (quirks.findIndex((each) => each.id === quirk.id) !== index) {
      throw new FirmwareError('FIRMWARE_BAD_QUIRK', {
        expected: 'every quirk once',
        found: `${label(quirk)} twice`,
        hint: 'leave one out',
      })
    }
    if (quirk.architectures?.includes(architecture) === false) {
      throw new FirmwareError('FIRMWARE_BAD_QUIRK', {
        expected: `quirks of ${architecture} firmware`,
        found: `${label(quirk)}, which is one of ${quirk.architectures.join(' and ')} firmware`,
        hint: `leave it out where the architecture is ${architecture}`,
      })
    }
    for (const [name, tap] of Object.entries(quirk.hooks)) {
      const hook = QUIRK_HOOK_NAMES.find((each) => each === name)
      if (hook === undefined || typeof tap !== 'function') {
        throw new FirmwareError('FIRMWARE_BAD_QUIRK', {
          expected: hook === undefined ? 'a hook of the firmware' : 'a function',
          found: `"${name}"${hook === undefined ? '' : ` of type ${typeof tap}`} in quirk ${label(quirk)}`,
          hint:
            hook === undefined
              ? `did you mean "${closest(name, QUIRK_HOOK_NAMES)}"?`
              : 'a hook takes one function',
        })
      }
      // Each key of QuirkTaps has the type of its own hook's tap, which the loop cannot say.
      ;(hooks[hook].tap as (name: string, fn: unknown) => void).call(hooks[hook], label(quirk), tap)
    }
  }
  return hooks
}

const BUILT_IN_ERRORS: ReadonlySet<unknown> = new Set([
  Error,
  TypeError,
  RangeError,
  ReferenceError,
  SyntaxError,
])

/**
 * Whether an error is a fault in a quirk's own code. Errors of other classes are what happens on a machine: exceptions, resets, and whatever
 * a kernel throws whose NMI handler runs inside the firmware's accesses.
 */
function isQuirksFault(error: unknown): boolean {
  if (!(error instanceof Error)) return true
  if (error instanceof CoreError || error instanceof UefiError) return true
  return BUILT_IN_ERRORS.has(error.constructor)
}

function nameWhatThrows(hook: FirmwareHooks[keyof FirmwareHooks]): void {
  hook.intercept({
    register: (tap) => ({
      ...tap,
      fn: (...args: readonly unknown[]): unknown => {
        try {
          return inTime(tap.fn(...args))
        } catch (error) {
          if (error instanceof FirmwareError) throw inQuirk(error, hook.name, tap.name)
          if (!isQuirksFault(error)) throw error
          throw new FirmwareError('FIRMWARE_QUIRK_FAILED', {
            expected: `hook "${hook.name}" of quirk ${tap.name} to run`,
            found: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
            cause: error,
          })
        }
      },
    }),
  })
}

/** What a hook gave, which is at once or never: a machine does not wait. */
function inTime(given: unknown): unknown {
  if (!(given instanceof Promise)) return given
  // Nobody will ask for it again.
  given.catch(() => undefined)
  throw new FirmwareError('FIRMWARE_BAD_QUIRK', {
    expected: 'a hook that returns at once',
    found: 'a promise',
    hint: 'no async and no await: a machine stands still while a hook runs',
  })
}

/** An error that says itself what is wrong, with the quirk that caused it. */
function inQuirk(error: FirmwareError, hook: string | undefined, quirk: string): FirmwareError {
  return new FirmwareError(error.code, {
    expected: error.expected,
    found: `${error.found}, in hook "${hook}" of quirk ${quirk}`,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    cause: error.cause,
  })
}

function label(quirk: Quirk): string {
  return `${quirk.id} (${quirk.name})`
}
