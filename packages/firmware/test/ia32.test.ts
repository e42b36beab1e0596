import { Cr0, Cr4, Efer, NEHALEM, PageFault, StackFault } from '@trapdoor/core'
import {
  checkTable,
  decodeConfigTable,
  decodeMemoryMap,
  EfiStatus,
  Guid,
  IA32,
  MemoryType,
  RUNTIME_SERVICES,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import { createFirmware, type Quirk } from '@trapdoor/firmware'
import {
  boot,
  bootToRuntime,
  BS,
  Caller,
  NV,
  RT,
  SMALL_MAP,
  smallFirmware,
  Variables,
} from '@trapdoor/plugin-kit'
import { describe, expect, test } from 'vitest'

const firmware = smallFirmware([], { architecture: 'ia32' })
/** Where {@link enterVirtualMode} puts runtime memory, which then lies above 3 GiB. */
const BASE = 0x9000_0000n
/** Runtime memory at {@link BASE} above its place, without the flash, which would wrap around. */
const VIRTUAL_MAP = Caller.runtimeMap(
  SMALL_MAP.filter(({ type }) => type !== MemoryType.MemoryMappedIO),
  BASE,
)
const { tables } = IA32

function enterVirtualMode(): Caller {
  const caller = bootToRuntime(firmware)
  expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
  return caller
}

function functionPointer(caller: Caller, name: RuntimeServiceName): bigint {
  return caller.readNatural(caller.runtimeTable + BigInt(tables.runtimeServicesTable[name]))
}

describe('a CPU that ia32 firmware hands over', () => {
  test('is in protected mode on PAE identity tables with no-execute, as that of OVMF', () => {
    const { cpu } = boot(firmware)
    expect(cpu.mode.name).toBe('PAE')
    expect(cpu.cr0 & (Cr0.PE | Cr0.WP | Cr0.PG)).toBe((Cr0.PE | Cr0.WP | Cr0.PG) & ~0)
    expect(cpu.cr4).toBe(Cr4.PAE)
    expect(cpu.efer).toBe(Efer.NXE)
    expect(cpu.codeSegmentLong).toBe(false)
    expect(cpu.interruptFlag).toBe(true)
    expect(cpu.translate(0xffff_f000n, 'read')).toBe(0xffff_f000)
  })

  test('has paging off where it cannot keep data from being executed', () => {
    const features = { ...NEHALEM, name: 'without NX', nx: false, longMode: false }
    const old = createFirmware({
      name: 'old',
      memoryMap: SMALL_MAP,
      architecture: 'ia32',
      features,
    })
    const { cpu } = boot(old)
    expect(cpu.mode.name).toBe('off')
    expect(cpu.cr0).toBe(Cr0.PE | Cr0.ET)
    const time = boot(old)
    expect(time.service('GetTime', time.room(16), 0n)).toBe(EfiStatus.SUCCESS)
  })
})

describe('the tables of ia32 firmware', () => {
  test('have pointers of four bytes where the specification puts them, and right checksums', () => {
    const caller = boot(firmware)
    const system = caller.cpu.readBytes(caller.systemTable, tables.systemTableSize)
    expect(tables.systemTableSize).toBe(0x48)
    expect(checkTable(system)).toBe(true)
    const runtime = caller.cpu.readBytes(caller.runtimeTable, tables.runtimeServicesTableSize)
    expect(runtime).toHaveLength(0x50)
    expect(checkTable(runtime)).toBe(true)
    const gates = firmware.images.flatMap((image) => image.gates)
    const addresses = RUNTIME_SERVICES.map(
      (name) => gates.find((each) => each.name === name)?.address,
    )
    expect(RUNTIME_SERVICES.map((name) => Number(functionPointer(caller, name)))).toEqual(addresses)
  })

  test('list configuration tables in entries of 20 bytes', () => {
    const caller = boot(firmware)
    const field = (offset: number): bigint =>
      caller.readNatural(caller.systemTable + BigInt(offset))
    const { NumberOfTableEntries, ConfigurationTable } = tables.systemTable
    const bytes = caller.cpu.readBytes(
      field(ConfigurationTable),
      Number(field(NumberOfTableEntries)) * 20,
    )
    const smbios = decodeConfigTable(bytes, IA32).find(({ guid }) => guid === Guid.SMBIOS)
    expect(caller.cpu.read32(smbios!.table)).toBe(0x5f4d_535f)
  })

  test('and images, lie below 4 GiB, whatever there is above', () => {
    const high = SMALL_MAP.filter(({ type }) => type !== MemoryType.MemoryMappedIO).map((each) =>
      Object.assign({}, each, { physicalStart: each.physicalStart + 2 ** 32 }),
    )
    const memoryMap = [...SMALL_MAP, ...high]
    const { images } = createFirmware({ name: 'high', memoryMap, architecture: 'ia32' })
    for (const { base } of images) expect(base).toBeLessThan(2 ** 32)
    expect(() =>
      createFirmware({ name: 'only high', memoryMap: high, architecture: 'ia32' }),
    ).toThrow(expect.objectContaining({ code: 'FIRMWARE_NO_ROOM' }))
  })
})

describe('a service of ia32 firmware', () => {
  test('takes its arguments from the stack, the first above the return address', () => {
    const caller = bootToRuntime(firmware)
    const { cpu } = caller
    const time = caller.room(16)
    const top = cpu.rsp
    const pointer = functionPointer(caller, 'GetTime')
    expect(cpu.call(pointer, time, 0n)).toBe(0n)
    expect(cpu.rsp).toBe(top)
    expect([cpu.read32(top - 4n), cpu.read32(top - 8n)]).toEqual([0, Number(time)])
    // Who passes no arguments passes what lies there.
    cpu.rsp = top - 8n
    expect(cpu.call(pointer)).toBe(0n)
  })

  test('returns errors with bit 31, in 32 bits', () => {
    const { cpu, ...caller } = bootToRuntime(firmware)
    const runtimeTable = caller.systemTable + BigInt(tables.systemTable.RuntimeServices)
    const table = BigInt(cpu.read32(runtimeTable))
    const getTime = BigInt(cpu.read32(table + BigInt(tables.runtimeServicesTable.GetTime)))
    expect(cpu.call(getTime, 0n, 0n)).toBe(0x8000_0002n)
  })

  test('writes no more than four bytes of a UINTN', () => {
    const caller = boot(firmware)
    const size = caller.number(0xaaaa_aaaa_0000_4000n)
    const map = caller.room(0x4000)
    const [key, stride, version] = [caller.room(8), caller.room(8), caller.room(8)]
    const status = caller.bootService('GetMemoryMap', size, map, key, stride, version)
    expect(status).toBe(EfiStatus.SUCCESS)
    expect(caller.cpu.read32(size + 4n)).toBe(0xaaaa_aaaa)
    expect(caller.cpu.read64(stride)).toBe(48n)
    const bytes = caller.cpu.readBytes(map, caller.cpu.read32(size))
    expect(decodeMemoryMap(bytes, 48)).toEqual(SMALL_MAP)
  })

  test('gets a 64-bit argument in two words', () => {
    const caller = boot(firmware)
    const at = caller.number(0n)
    const [anyPages, data] = [0n, BigInt(MemoryType.LoaderData)]
    expect(caller.bootService('AllocatePages', anyPages, data, 2n, at)).toBe(EfiStatus.SUCCESS)
    const start = caller.cpu.read64(at)
    expect(start).toBeLessThan(2n ** 32n)
    expect(caller.bootService('FreePages', start + 2n ** 32n, 2n)).toBe(EfiStatus.NOT_FOUND)
    expect(caller.bootService('FreePages', start, 2n)).toBe(EfiStatus.SUCCESS)
  })

  test('keeps variables, at physical and at virtual addresses', () => {
    const caller = bootToRuntime(firmware)
    const variables = new Variables(caller)
    expect(variables.set('Kept', NV | BS | RT, [1, 2, 3])).toBe(EfiStatus.SUCCESS)
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
    caller.mapRuntime(VIRTUAL_MAP)
    expect(functionPointer(caller, 'GetVariable')).toBeGreaterThan(BASE)
    expect(variables.get('Kept').data).toEqual([1, 2, 3])
    expect(variables.names().length).toBeGreaterThan(3)
    expect(variables.info(NV | BS | RT).status).toBe(EfiStatus.SUCCESS)
    expect(variables.set('Kept', NV | BS | RT, [])).toBe(EfiStatus.SUCCESS)
  })

  test('sets and reads the clock, counts, and takes capsules', () => {
    const caller = bootToRuntime(firmware)
    const [time, count] = [caller.room(16), caller.room(4)]
    expect(caller.service('GetTime', time, 0n)).toBe(EfiStatus.SUCCESS)
    expect(caller.service('SetTime', time)).toBe(EfiStatus.SUCCESS)
    expect(caller.service('GetNextHighMonotonicCount', count)).toBe(EfiStatus.SUCCESS)
    expect(caller.cpu.read32(count)).toBeGreaterThan(0)
    const capsule = caller.room(28)
    caller.cpu.write32(capsule + 20n, 0x1_0000)
    const list = caller.number(capsule)
    const [maximum, reset] = [caller.room(8), caller.room(4)]
    const capabilities = [list, 1n, maximum, reset]
    expect(caller.service('QueryCapsuleCapabilities', ...capabilities)).toBe(EfiStatus.SUCCESS)
    expect(caller.cpu.read64(maximum)).toBe(0xa0_0000n)
    const blocks = caller.room(16)
    expect(caller.service('UpdateCapsule', list, 1n, blocks)).toBe(EfiStatus.SUCCESS)
    const after = new Variables(new Caller(firmware.afterReset(caller.machine, { memory: 'kept' })))
    const report = after.get('Capsule0000', '39b68c46-f7fb-441b-b6ec-16b0f69821f3')
    expect(report.size).toBe(44n)
  })
})

describe('SetVirtualAddressMap of ia32 firmware', () => {
  test('converts pointers of four bytes, in tables and in images', () => {
    const caller = enterVirtualMode()
    caller.mapRuntime(VIRTUAL_MAP)
    expect(functionPointer(caller, 'GetTime') & 0xfffn).toBe(
      functionPointer(boot(firmware), 'GetTime') & 0xfffn,
    )
    const { memory } = caller.machine
    for (const image of firmware.images.filter(({ name }) => name !== 'RuntimeDxe')) {
      for (const { address, conversion, name } of image.slots) {
        const isMoved = memory.read32(address) >= BASE
        expect([image.name, name, isMoved]).toEqual([image.name, name, conversion !== 'none'])
      }
    }
  })

  test('leaves nothing at physical addresses', () => {
    const caller = enterVirtualMode()
    caller.mapRuntime(VIRTUAL_MAP)
    const time = caller.room(16)
    expect(caller.service('GetTime', time, 0n)).toBe(EfiStatus.SUCCESS)
    const image = firmware.images.find(({ name }) => name === 'PcRtc')!
    const physical = BigInt(image.gates.find(({ name }) => name === 'GetTime')!.address)
    expect(() => caller.cpu.call(physical, time, 0n)).toThrow(PageFault)
  })

  test('adds modulo 2^32, as its pointers have 32 bits', () => {
    const caller = bootToRuntime(firmware)
    const wrapped = VIRTUAL_MAP.map((each) =>
      Object.assign({}, each, { virtualStart: each.virtualStart + 0xffff_ffff_0000_0000n }),
    )
    expect(caller.setVirtualAddressMap(wrapped)).toBe(EfiStatus.SUCCESS)
    caller.mapRuntime(VIRTUAL_MAP)
    expect(caller.service('GetTime', caller.room(16), 0n)).toBe(EfiStatus.SUCCESS)
  })

  test('needs the stack of its caller', () => {
    const caller = bootToRuntime(firmware)
    const pointer = functionPointer(caller, 'GetTime')
    caller.useOwnTables(SMALL_MAP.slice(0, -1), { base: 0n })
    caller.cpu.rsp = 0x7000_0000n
    expect(() => caller.cpu.call(pointer, 0n, 0n)).toThrow(PageFault)
    expect(() => caller.cpu.read32(2n ** 32n, { stack: true })).toThrow(StackFault)
  })
})

test('a quirk that only 64-bit firmware can have is refused', () => {
  const wide: Quirk = {
    id: 'T1',
    name: 'wide',
    title: 'has 64 bits',
    sources: [],
    architectures: ['x64'],
    hooks: {},
  }
  expect(() => smallFirmware([wide], { architecture: 'ia32' })).toThrow(
    expect.objectContaining({ code: 'FIRMWARE_BAD_QUIRK', found: expect.stringContaining('x64') }),
  )
  expect(smallFirmware([wide]).architecture.name).toBe('x64')
})
