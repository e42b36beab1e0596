import { inspectAddress } from '@trapdoor/core'
import { boot, bootToRuntime } from '@trapdoor/plugin-kit'
import {
  checkTable,
  decodeMemoryMap,
  EfiStatus,
  MemoryType,
  RUNTIME_SERVICES,
  SYSTEM_TABLE_SIZE,
} from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { ovmf, RECORDED, recorded } from './recorded.ts'

const ACCESSED_AND_DIRTY = 0x60n

describe.skipIf(!RECORDED)('OVMF at hand-off (skipped where the shared data is absent)', () => {
  test('a loader gets the map that was recorded, and a system table that offers boot services', () => {
    const caller = boot(ovmf())
    const { status, stride, map } = caller.getMemoryMap()
    expect(status).toBe(EfiStatus.SUCCESS)
    expect(decodeMemoryMap(map, Number(stride))).toEqual(recorded().memoryMap)
    const { cpu, systemTable } = caller
    expect(checkTable(cpu.readBytes(systemTable, SYSTEM_TABLE_SIZE))).toBe(true)
  })

  test('after ExitBootServices all memory of the firmware is as it was recorded', () => {
    const { machine } = bootToRuntime(ovmf())
    const changed = recorded().pages.flatMap(({ address, bytes }) => {
      const now = new BigUint64Array(machine.memory.read(address, bytes.length).buffer)
      const then = new BigUint64Array(bytes.slice().buffer)
      return [...now.entries()]
        .filter(([word, value]) => ((value ^ then[word]!) & ~ACCESSED_AND_DIRTY) !== 0n)
        .map(([word]) => address + word * 8)
    })
    expect(changed).toEqual([])
  })

  test('the boot services do what the model of them does elsewhere', () => {
    const caller = boot(ovmf())
    const { key } = caller.getMemoryMap()
    expect(caller.bootService('ExitBootServices', caller.imageHandle, key + 1n)).toBe(
      EfiStatus.INVALID_PARAMETER,
    )
    const place = caller.number(0n)
    const type = BigInt(MemoryType.LoaderData)
    expect(caller.bootService('AllocatePages', 0n, type, 1n, place)).toBe(EfiStatus.SUCCESS)
    expect(caller.getMemoryMap().key).not.toBe(key)
    expect(caller.exitBootServices()).toBe(EfiStatus.SUCCESS)
    expect(caller.cpu.interruptFlag).toBe(false)
  })

  test('the processor is as it was left, on the firmware’s own page tables', () => {
    const { machine } = ovmf().powerOn()
    const { bootCpu: cpu } = machine
    expect([cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer]).toEqual([0x8001_0033, 0x1fc0_1000, 0x668, 0xd00])
    expect([cpu.cs, cpu.gdtr.base, cpu.rsp]).toEqual([0x38, 0x1f9d_c000n, 0x1fef_a700n])
    const here = inspectAddress(cpu.translationContext(), 0x1fa6_0b29n)
    expect(here).toMatchObject({ status: 'mapped', physical: 0x1fa6_0b29 })
  })

  test('frames belong to the images that lie in them, and the flash is a device', () => {
    const firmware = ovmf()
    const { owners } = firmware.powerOn().machine.memory
    const names = [0x1fa6_8d38, 0x1fa6_0b29, 0x1fad_d4ea, 0x1fae_1234, 0x1fae_8000].map(
      (address) => owners.get(Math.floor(address / 4096))?.name,
    )
    expect(names).toEqual([
      'VariableRuntimeDxe',
      'PcRtc',
      'ResetSystemRuntimeDxe',
      'RuntimeDxe',
      'image at 0x1fae8000',
    ])
    expect(owners.get(0xffe00)).toEqual({ kind: 'device', name: 'flash' })
    expect(firmware.describePhysical(0x1fa6_8d38)).toBe(
      'descriptor 106: RuntimeServicesCode 0x000000001f9ed000-0x000000001faecfff RUNTIME|UC|WC|WT|WB, image VariableRuntimeDxe',
    )
  })

  test('its services are the functions of its images', () => {
    const functions = ovmf().images.flatMap(({ gates }) => gates)
    expect(functions.map(({ name }) => name).toSorted()).toEqual([...RUNTIME_SERVICES].toSorted())
    const { functionNames } = ovmf().powerOn().machine
    expect(functionNames.get(0x1fa6_8d38)).toBe('GetVariable')
  })

  test('the reset ports, the clock and the power management are those of its board', () => {
    const { ports } = ovmf([], 'q35-4M-512M').powerOn().machine
    ports.out8(0x70, 0x0b)
    expect(ports.in8(0x71)).toBe(0x02)
    ports.out32(0xcf8, 0x8000_0000)
    expect(ports.in32(0xcfc)).toBe(0x29c0_8086)
  })

  test('a service runs as machine code, and is called by its name', () => {
    const caller = bootToRuntime(ovmf())
    const [first, second, third] = [caller.room(8), caller.room(8), caller.room(8)]
    expect(caller.service('QueryVariableInfo', 7n, first, second, third)).toBe(EfiStatus.SUCCESS)
    expect(caller.cpu.read64(first)).toBe(0xdf9cn)
    expect(caller.machine.log.events.at(-1)).toMatchObject({
      kind: 'return',
      name: 'QueryVariableInfo',
      image: 'VariableRuntimeDxe',
      rax: 0n,
    })
  })
})
