import { MachineReset } from '@trapdoor/core'
import { EfiStatus } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { boot, bootToRuntime, type Caller, smallFirmware } from '@trapdoor/plugin-kit'
import { Variables } from '@trapdoor/plugin-kit'

const firmware = smallFirmware()
const [PERSIST, POPULATE, RESET] = [0x1_0000, 0x2_0000, 0x4_0000]
const SCATTER_LIST = 0x123_4000n

/** Arguments CapsuleHeaderArray and CapsuleCount for one capsule with these flags. */
function capsule(caller: Caller, flags: number): [bigint, bigint] {
  const header = caller.room(28)
  caller.cpu.write32(header + 16n, 28)
  caller.cpu.write32(header + 20n, flags)
  caller.cpu.write32(header + 24n, 28)
  return [caller.number(header), 1n]
}

const update = (caller: Caller, flags: number, scatterList = SCATTER_LIST): bigint =>
  caller.service('UpdateCapsule', ...capsule(caller, flags), scatterList)

describe('UpdateCapsule', () => {
  test('leaves a capsule for the next boot in a variable', () => {
    const caller = bootToRuntime(firmware)
    expect(update(caller, PERSIST)).toBe(EfiStatus.SUCCESS)
    const kept = new Variables(caller).get(
      'CapsuleUpdateData',
      '711c703f-c285-4b10-a3b0-36ecbd3c8be2',
    )
    expect(kept.data).toEqual([0, 0x40, 0x23, 1, 0, 0, 0, 0])
  })

  test('resets the machine where the capsule asks for it', () => {
    expect(() => update(bootToRuntime(firmware), PERSIST | RESET)).toThrow(MachineReset)
  })

  test('refuses flags that need persistence, no capsules and no scatter list', () => {
    const caller = bootToRuntime(firmware)
    expect(update(caller, RESET)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(update(caller, POPULATE)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(update(caller, PERSIST, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(caller.service('UpdateCapsule', 0n, 0n, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
  })

  test('cannot take a capsule on the spot', () => {
    expect(update(boot(firmware), 0)).toBe(EfiStatus.UNSUPPORTED)
    expect(update(bootToRuntime(firmware), 0)).toBe(EfiStatus.OUT_OF_RESOURCES)
  })
})

describe('QueryCapsuleCapabilities', () => {
  test('takes 10 MiB with a warm reset', () => {
    const caller = bootToRuntime(firmware)
    const [size, reset] = [caller.room(8), caller.room(8)]
    const query = (flags: number): bigint =>
      caller.service('QueryCapsuleCapabilities', ...capsule(caller, flags), size, reset)
    expect(query(PERSIST)).toBe(EfiStatus.SUCCESS)
    expect([caller.cpu.read64(size), caller.cpu.read32(reset)]).toEqual([0xa0_0000n, 1])
    expect(query(0)).toBe(EfiStatus.UNSUPPORTED)
    expect(query(RESET)).toBe(EfiStatus.INVALID_PARAMETER)
  })

  test('refuses null pointers', () => {
    const caller = bootToRuntime(firmware)
    const args = capsule(caller, PERSIST)
    const invalid = EfiStatus.INVALID_PARAMETER
    expect(caller.service('QueryCapsuleCapabilities', ...args, 0n, caller.room(8))).toBe(invalid)
  })
})
