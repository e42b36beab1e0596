import { inspectAddress, PageFault, PageFaultBit } from '@trapdoor/core'
import { Guid, MemoryType, RuntimeServicesTable, SystemTable } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { createKernelHooks, E820Type } from '../src/index.ts'
import { boot, bootOn, converted, messages } from './booted.ts'
import {
  CONFIGURATION_TABLE,
  descriptor,
  FLASH,
  gateOf,
  MAP,
  RUNTIME_DATA,
  RUNTIME_TABLE,
  type SmallMachine,
  smallMachine,
  SMBIOS,
  SYSTEM_TABLE,
  VENDOR,
} from './small-machine.ts'
import { thrownBy } from './thrown.ts'

/** What a boot on this machine prints about EFI and DMI. */
function printed(small: SmallMachine): string[] {
  bootOn(small)
  return messages(small.machine.log.events, 'kernel').filter((text) => !text.startsWith('Starting'))
}

const faultOf = (small: SmallMachine): PageFault => thrownBy(PageFault, () => bootOn(small))

describe('efi_init()', () => {
  test('prints the version and the vendor, then the tables, and then DMI has its turn', () => {
    expect(printed(smallMachine())).toEqual([
      'EFI v2.70 by Tiny Firmware',
      'ACPI_20=0xff97014 SMBIOS=0x8400400',
      'SMBIOS present.',
    ])
  })

  test('goes on where the signature is wrong, after a line about it', () => {
    const small = smallMachine()
    small.machine.memory.write64(SYSTEM_TABLE, 0n)
    expect(printed(small).slice(0, 2)).toEqual([
      'EFI: system table signature incorrect!',
      'EFI v2.70 by Tiny Firmware',
    ])
  })

  test('prints at most 99 characters of the vendor', () => {
    const vendor = 'abcdefghij'.repeat(10)
    const [line] = printed(smallMachine({ vendor }))
    expect(line).toBe(`EFI v2.70 by ${vendor.slice(0, 99)}`)
  })

  test('maps two bytes of the vendor, and faults on a string that leaves its page', () => {
    const small = smallMachine()
    const edge = RUNTIME_DATA + 0x1ffc
    small.machine.memory.write64(SYSTEM_TABLE + SystemTable.FirmwareVendor, BigInt(edge))
    small.machine.memory.write32(edge, 0x0042_0041)
    small.machine.memory.write32(edge + 4, 0x0043)
    const fault = faultOf(small)
    expect(fault.address & 0xfffn).toBe(0n)
    expect(fault.errorCode).toBe(0)
  })

  test('keeps what the tables say, and the firmware’s map in its order', () => {
    const efi = boot().kernel.requireEfi
    expect(efi).toMatchObject({
      vendor: 'Tiny Firmware',
      vendorAddress: BigInt(VENDOR),
      runtimeAddress: BigInt(RUNTIME_TABLE),
      configurationTableAddress: BigInt(CONFIGURATION_TABLE),
      setVirtualAddressMap: BigInt(gateOf('SetVirtualAddressMap')),
      systab: undefined,
      virtualMode: false,
    })
    expect(efi.memoryMap).toEqual(MAP)
    expect(efi.configurationTable).toEqual([
      { guid: Guid.ACPI_20, table: 0x0ff9_7014n },
      { guid: Guid.SMBIOS, table: BigInt(SMBIOS) },
    ])
  })

  test('keeps a copy of the runtime table, which SetVirtualAddressMap does not reach', () => {
    const { kernel } = boot({ strategies: [converted] })
    const { bootCpu: cpu } = kernel
    const { physicalRuntimeCopy: copy } = kernel.requireEfi
    const offset = BigInt(RuntimeServicesTable.GetVariable)
    expect(cpu.read64(copy + offset)).toBe(BigInt(gateOf('GetVariable')))
    const converting = kernel.tables.directMapAddress(RUNTIME_TABLE) + offset
    expect(cpu.read64(converting)).toBe(kernel.tables.directMapAddress(gateOf('GetVariable')))
  })

  test('from Linux 6.2 on takes large MMIO regions out of the e820 map, and leaves small ones', () => {
    const small = descriptor(MemoryType.MemoryMappedIO, 0xfe00_0000, 0xfe03_f000)
    const reserved = (linux: string): number[] =>
      boot({ map: [...MAP, small], linux })
        .kernel.e820.filter(({ type }) => type === E820Type.RESERVED)
        .map(({ start }) => start)
    expect(reserved('6.1').slice(-2)).toEqual([0xfe00_0000, FLASH])
    expect(reserved('6.2').at(-1)).toBe(0xfe00_0000)
    expect(messages(boot({ linux: '6.12' }).machine.log.events, 'kernel')).toContain(
      'efi: Remove mem7: MMIO range=[0xffc00000-0xffffffff] from e820 map',
    )
  })

  test('leaves nothing mapped in the fixmap', () => {
    const { kernel } = boot()
    const context = kernel.bootCpu.translationContext(kernel.tables.swapper.root)
    for (let page = 0n; page < 4n * 64n; page++) {
      const address = kernel.tables.layout.fixmapStart + page * 4096n
      expect(inspectAddress(context, address).status).toBe('not-present')
    }
  })

  test('runs before there is a direct map', () => {
    const hooks = createKernelHooks()
    let lowEnd: number | undefined
    hooks.phase.tap('test', ({ phase, tables }) => {
      if (phase === 'efi_init') lowEnd = tables.directMapEnds.lowEnd
    })
    boot({ hooks })
    expect(lowEnd).toBe(0)
  })

  test.each([
    { field: 'FirmwareVendor', what: 'vendor', printedBefore: 0 },
    { field: 'ConfigurationTable', what: 'configuration table', printedBefore: 1 },
    { field: 'RuntimeServices', what: 'runtime table', printedBefore: 2 },
  ] as const)(
    'dies of a reserved bit where the $what is at another kernel’s virtual address',
    ({ field, printedBefore }) => {
      const small = smallMachine()
      small.machine.memory.write64(SYSTEM_TABLE + SystemTable[field], 0xffff_8800_0840_0200n)
      const fault = faultOf(small)
      expect(fault.access).toBe('read')
      expect(fault.errorCode).toBe(PageFaultBit.Present | PageFaultBit.Reserved)
      const lines = messages(small.machine.log.events, 'kernel')
      // The order of efi_init(): vendor, configuration tables, runtime table.
      expect(lines).toHaveLength(printedBefore + 1)
      expect(lines.at(-1)).toMatch(/^PANIC: early exception 0e cr2 ffffffffff200/)
    },
  )
})

describe('dmi_scan_machine()', () => {
  test('finds nothing where the configuration table has no SMBIOS', () => {
    const small = smallMachine()
    small.machine.memory.write64(CONFIGURATION_TABLE + 24, 0n)
    expect(printed(small).at(-1)).toBe('DMI not present or invalid.')
  })

  test('finds nothing where there is no anchor', () => {
    const small = smallMachine()
    small.machine.memory.write32(SMBIOS, 0x5f44_4d49)
    expect(printed(small).at(-1)).toBe('DMI not present or invalid.')
  })

  test('takes the pointer for a physical address', () => {
    const fault = faultOf(smallMachine({ smbios: 0xffff_8800_0840_0400n }))
    expect(fault.errorCode & PageFaultBit.Reserved).toBe(PageFaultBit.Reserved)
  })
})
