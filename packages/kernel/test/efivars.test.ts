import { EfiStatus, encodeUcs2, parseGuid } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { EfiServices, efivarInit, isServiceOfRevision, KernelHang } from '../src/index.ts'
import { boot } from './booted.ts'
import type { SmallMachineOptions } from './small-machine.ts'

const GUID = '12345678-9abc-def0-1122-334455667788'
const NAMES = ['Boot0000', 'BootOrder', 'Timeout']

/** GetNextVariableName over three names; `after` is what follows the last. */
function listing(after: bigint): NonNullable<SmallMachineOptions['services']> {
  let given = 0
  return {
    GetNextVariableName: ({ cpu, args }) => {
      const [size, name, guid] = args
      if (given >= NAMES.length) return after
      const text = encodeUcs2(NAMES[given++]!)
      cpu.write64(size!, BigInt(text.length))
      cpu.writeBytes(name!, text)
      cpu.writeBytes(guid!, parseGuid(GUID))
      return EfiStatus.SUCCESS
    },
  }
}

describe('efivarInit', () => {
  test('lists names until there are no more', () => {
    const { kernel } = boot({ services: listing(EfiStatus.NOT_FOUND) })
    const names = efivarInit(kernel, new EfiServices(kernel, kernel.bootCpu, 'stack'))
    expect(names).toEqual(NAMES.map((name) => ({ name, guid: GUID })))
  })

  test('does not come back where the last name is given for ever', () => {
    const { kernel } = boot({ services: listing(EfiStatus.SUCCESS) })
    const services = new EfiServices(kernel, kernel.bootCpu, 'stack')
    expect(() => efivarInit(kernel, services)).toThrow(KernelHang)
  })
})

test('services that came with UEFI 2.0 are none of an older firmware', () => {
  const services = ['GetVariable', 'QueryVariableInfo', 'UpdateCapsule'] as const
  const of = (revision: number): boolean[] =>
    services.map((service) => isServiceOfRevision(revision, service))
  expect(of(0x1_000a)).toEqual([true, false, false])
  expect(of(0x2_0000)).toEqual([true, true, true])
})
