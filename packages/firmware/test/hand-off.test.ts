import { BROADWELL, mappedRanges, MemoryKind, mtrrKind } from '@trapdoor/core'
import {
  BOOT_SERVICES_TABLE_SIZE,
  checkTable,
  CONFIG_TABLE_ENTRY_SIZE,
  decodeConfigTable,
  decodeMemoryMap,
  decodeUcs2,
  EfiStatus,
  Guid,
  MemoryType,
  RUNTIME_SERVICES_TABLE_SIZE,
  SYSTEM_TABLE_SIZE,
  SystemTable,
} from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { createFirmware, FirmwareError } from '../src/index.ts'
import { boot, Caller, SMALL_MAP, smallFirmware } from '@trapdoor/plugin-kit'

const firmware = smallFirmware()

function sumOf(bytes: Uint8Array): number {
  return bytes.reduce((sum, byte) => (sum + byte) & 0xff, 0)
}

describe('the tables at hand-off', () => {
  test('have the right checksums', () => {
    const { cpu, systemTable, runtimeTable } = boot(firmware)
    const bootTable = cpu.read64(systemTable + BigInt(SystemTable.BootServices))
    expect(checkTable(cpu.readBytes(systemTable, SYSTEM_TABLE_SIZE))).toBe(true)
    expect(checkTable(cpu.readBytes(runtimeTable, RUNTIME_SERVICES_TABLE_SIZE))).toBe(true)
    expect(checkTable(cpu.readBytes(bootTable, BOOT_SERVICES_TABLE_SIZE))).toBe(true)
  })

  test('name the vendor and UEFI 2.31', () => {
    const { cpu, systemTable } = boot(firmware)
    const vendor = cpu.read64(systemTable + BigInt(SystemTable.FirmwareVendor))
    expect(decodeUcs2(cpu.readBytes(vendor, 64))).toBe('Trapdoor')
    expect(cpu.read32(systemTable + 8n)).toBe(0x0002_001f)
  })

  test('lead to ACPI and SMBIOS with anchors whose bytes add up to zero', () => {
    const { cpu, systemTable } = boot(firmware)
    const count = Number(cpu.read64(systemTable + BigInt(SystemTable.NumberOfTableEntries)))
    const at = cpu.read64(systemTable + BigInt(SystemTable.ConfigurationTable))
    const entries = decodeConfigTable(cpu.readBytes(at, count * CONFIG_TABLE_ENTRY_SIZE))
    const table = (guid: string): bigint => entries.find((each) => each.guid === guid)?.table ?? 0n
    expect(entries.map(({ guid }) => guid)).toEqual([
      Guid.ACPI_20,
      Guid.ACPI_10,
      Guid.SMBIOS,
      Guid.MEMORY_ATTRIBUTES_TABLE,
    ])
    expect(Buffer.from(cpu.readBytes(table(Guid.ACPI_20), 8)).toString()).toBe('RSD PTR ')
    expect(sumOf(cpu.readBytes(table(Guid.ACPI_20), 20))).toBe(0)
    expect(sumOf(cpu.readBytes(table(Guid.ACPI_20), 36))).toBe(0)
    expect(Buffer.from(cpu.readBytes(table(Guid.SMBIOS), 4)).toString()).toBe('_SM_')
    expect(sumOf(cpu.readBytes(table(Guid.SMBIOS), 31))).toBe(0)
    expect(sumOf(cpu.readBytes(table(Guid.SMBIOS) + 16n, 15))).toBe(0)
  })
})

describe('the machine at hand-off', () => {
  test('has images in every runtime-code region, tagged with their names', () => {
    const { machine } = firmware.powerOn()
    const regions = SMALL_MAP.filter(({ type }) => type === MemoryType.RuntimeServicesCode)
    const perRegion = regions.map(
      ({ physicalStart, numberOfPages }) =>
        firmware.images.filter(
          ({ base }) => base >= physicalStart && base < physicalStart + numberOfPages * 4096,
        ).length,
    )
    expect(perRegion).toEqual([3, 3])
    for (const { name, base } of firmware.images) {
      expect(machine.memory.owners.get(base / 4096)).toEqual({ kind: 'firmware', name })
    }
  })

  test('owns what is not for the operating system, and nothing else', () => {
    const { owners } = firmware.powerOn().machine.memory
    const owner = (address: number): string | undefined => owners.get(address / 4096)?.name
    expect(owner(0x10_0000)).toBeUndefined()
    expect(owner(0x3200_0000)).toBe('boot services')
    expect(owner(0x3453_f000)).toBe('RuntimeServicesData')
    expect(owners.get(0xffc0_0000 / 4096)).toEqual({ kind: 'device', name: 'MMIO' })
  })

  test('maps the first 4 GiB to themselves, writable and executable', () => {
    const { cpu } = boot(firmware)
    for (const address of [0n, 0x472n, 0x3450_0000n, 0xfed0_0000n, 0xffff_f000n]) {
      expect(cpu.translate(address, 'write')).toBe(Number(address))
      expect(cpu.translate(address, 'execute')).toBe(Number(address))
    }
  })

  test('caches memory write-back and devices not at all', () => {
    const { mtrrs } = firmware.powerOn().machine
    expect(mtrrKind(mtrrs, 0x3450_0000)).toBe(MemoryKind.WB)
    expect(mtrrKind(mtrrs, 0xffc0_0000)).toBe(MemoryKind.UC)
    expect(mtrrKind(mtrrs, 0xfed0_0000)).toBe(MemoryKind.UC)
  })

  test('has a stack in boot-services data and interrupts on', () => {
    const { cpu, machine } = boot(firmware)
    expect(machine.memory.owners.get(Number(cpu.rsp - 8n) >> 12)?.name).toBe('boot services')
    expect(cpu.interruptFlag).toBe(true)
  })
})

describe('a firmware', () => {
  test('says what is at a physical address', () => {
    const { base } = firmware.images.find(({ name }) => name === 'VariableRuntimeDxe')!
    expect(firmware.describePhysical(base)).toBe(
      'descriptor 10: RuntimeServicesCode 0x0000000034620000-0x000000003463ffff RUNTIME|UC|WC|WT|WB, image VariableRuntimeDxe',
    )
    expect(firmware.describePhysical(0x20_0000)).toBe(
      'descriptor 2: ConventionalMemory 0x0000000000100000-0x00000000300fffff UC|WC|WT|WB',
    )
    expect(firmware.describePhysical(0x5000_0000)).toBe('no descriptor')
  })

  test('keeps out of descriptors that are empty, overlap, or lie beyond what the CPU addresses', () => {
    const code = SMALL_MAP.find(({ type }) => type === MemoryType.RuntimeServicesCode)!
    const odd = [
      { ...code, physicalStart: 0x5000_0000, numberOfPages: 0 },
      { ...code, physicalStart: 0x6000_0000, numberOfPages: 8 },
      { ...code, physicalStart: 0x6000_4000, numberOfPages: 8 },
      { ...code, physicalStart: 2 ** 41, numberOfPages: 8 },
      { ...code, physicalStart: 2 ** 52 - 4096, numberOfPages: 2 ** 52 },
      { ...code, physicalStart: 0x7000_0000, attribute: 0xfn },
    ]
    const memoryMap = [...odd, ...SMALL_MAP.toReversed()]
    const strange = createFirmware({ name: 'strange', memoryMap })
    const caller = boot(strange)
    expect(decodeMemoryMap(caller.getMemoryMap(0x2000).map, 48)).toEqual(memoryMap)
    expect(strange.images.every(({ base }) => base < 0x4000_0000)).toBe(true)
    expect(caller.exitBootServices()).toBe(EfiStatus.SUCCESS)
    expect(caller.setVirtualAddressMap(Caller.runtimeMap(SMALL_MAP))).toBe(EfiStatus.SUCCESS)
  })

  test('uses 1 GiB pages where the CPU has them', () => {
    const options = { name: 'broadwell', memoryMap: SMALL_MAP, features: BROADWELL, cpus: 2 }
    const { machine } = createFirmware(options).powerOn()
    const sizes = mappedRanges(machine.bootCpu.translationContext()).ranges.map(
      ({ start, bytes, pageSize }) => [start, bytes, pageSize],
    )
    expect(sizes).toEqual([[0n, 2 ** 32, 2 ** 30]])
    expect(machine.cpus.map(({ cr3 }) => cr3)).toEqual([machine.bootCpu.cr3, machine.bootCpu.cr3])
    expect(machine.cpus[1]!.rsp).not.toBe(machine.bootCpu.rsp)
  })

  test('refuses a map without runtime code that it could live in', () => {
    const memoryMap = SMALL_MAP.filter(({ type }) => type !== MemoryType.RuntimeServicesCode)
    const refused = (): unknown => createFirmware({ name: 'homeless', memoryMap })
    expect(refused).toThrow(FirmwareError)
    expect(refused).toThrow(
      'expected 2 pages of RuntimeServicesCode for image RuntimeDxe, found no such region that can be used',
    )
  })
})
