import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { bootToRuntime, smallFirmware } from '@trapdoor/plugin-kit'
import { ifEnabled } from '../src/index.ts'

/** RFLAGS.IF after GetTime was called with it clear. */
function interruptsAfterGetTime(quirks: readonly Quirk[]): boolean {
  const caller = bootToRuntime(smallFirmware(quirks))
  caller.cpu.interruptFlag = false
  expect(caller.service('GetTime', caller.room(16), 0n)).toBe(EfiStatus.SUCCESS)
  return caller.cpu.interruptFlag
}

describe('Q44 if-enabled', () => {
  test('returns with interrupts on, as firmware without it does not', () => {
    expect(interruptsAfterGetTime([ifEnabled])).toBe(true)
    expect(interruptsAfterGetTime([])).toBe(false)
  })
})
