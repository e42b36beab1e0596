import { InvalidOpcode } from '@trapdoor/core'
import { bootToRuntime, smallFirmware } from '@trapdoor/plugin-kit'
import { EfiStatus, Guid } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

/** NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS: firmware takes no other new variables at run time. */
const KEPT = 0x7n

function driver(id: string): NonNullable<typeof plugin.quirks>[number] {
  return plugin.quirks!.find((quirk) => quirk.id === id)!
}

/** SetVariable at run time under a variant; the status, and RFLAGS.IF after it. */
function setVariable(id: string, name: string): { status: bigint; interruptFlag: boolean } {
  const caller = bootToRuntime(smallFirmware([driver(id)]))
  caller.cpu.interruptFlag = true
  const status = caller.service(
    'SetVariable',
    caller.text(name),
    caller.guid(Guid.GLOBAL_VARIABLE),
    KEPT,
    4n,
    caller.put(new Uint8Array(4)),
  )
  return { status, interruptFlag: caller.cpu.interruptFlag }
}

describe('the driver', () => {
  test.each(['D0x', 'D0', 'D0n', 'D1', 'D1p', 'D2', 'D4', 'D19', 'D21'])(
    '%s passes calls on where everything is mapped 1:1',
    (id) => {
      expect(setVariable(id, 'Name').status).toBe(EfiStatus.SUCCESS)
    },
  )

  test('D12 returns with interrupts off, D12L only for names that begin with P', () => {
    expect(setVariable('D12', 'Name').interruptFlag).toBe(false)
    expect(setVariable('D12L', 'Name').interruptFlag).toBe(true)
    expect(setVariable('D12L', 'Probe').interruptFlag).toBe(false)
  })

  test('D16 never comes back', () => {
    expect(() => setVariable('D16', 'Name')).toThrow('waits for what never comes')
  })

  test('D20 executes what is no instruction', () => {
    expect(() => setVariable('D20', 'Name')).toThrow(InvalidOpcode)
  })

  test('D8 refuses SetVirtualAddressMap', () => {
    const caller = bootToRuntime(smallFirmware([driver('D8')]))
    expect(caller.setVirtualAddressMap([])).toBe(EfiStatus.UNSUPPORTED)
  })
})
