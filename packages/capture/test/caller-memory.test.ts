import { contextFromRegisters, inspectAddress, PAE, PhysicalMemory, QEMU_TCG } from '@trapdoor/core'
import { type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { expect, test } from 'vitest'
import { buildTables, placeCaller } from '../src/vectors/caller-memory.ts'
import { thrownBy } from './thrown.ts'

function region(
  type: number,
  physicalStart: number,
  numberOfPages: number,
  virtualStart = 0n,
): MemoryDescriptor {
  return { type, physicalStart, numberOfPages, virtualStart, attribute: 0xfn }
}

const { ConventionalMemory, RuntimeServicesCode, RuntimeServicesData } = MemoryType

test('the caller gets the end of the largest free region below 4 GiB', () => {
  const map = [
    region(ConventionalMemory, 0x10_0000, 1000),
    region(ConventionalMemory, 0x100_0000, 2000),
    region(RuntimeServicesData, 0x1000_0000, 5000),
    region(ConventionalMemory, 0x1_0000_0000, 9000),
  ]
  const { scratch, tables } = placeCaller(map)
  expect(tables - scratch).toBe(32 * 4096)
  expect(tables + 512 * 4096).toBe(0x100_0000 + 2000 * 4096)
  expect(thrownBy(() => placeCaller([region(ConventionalMemory, 0x10_0000, 500)]))).toMatchObject({
    code: 'CAPTURE_NO_MEMORY',
    found: '500',
  })
})

test('its page tables map 4 GiB one to one, and regions at their virtual addresses', () => {
  const regions = [
    region(RuntimeServicesCode, 0x1f9e_d000, 256, 0xffff_fffe_ff7e_d000n),
    region(RuntimeServicesData, 0x1ec0_0000, 1024, 0xffff_fffe_fec0_0000n),
    region(RuntimeServicesData, 0x10_0000, 1, 0x10_0000n),
  ]
  const { root, pages } = buildTables({ scratch: 0x200_0000, tables: 0x202_0000 }, regions, 'x64')
  const memory = new PhysicalMemory()
  for (const { address, bytes } of pages) memory.write(address, bytes)
  const context = contextFromRegisters({ memory, features: QEMU_TCG, cr3: root })
  const physical = (address: bigint): unknown => {
    const found = inspectAddress(context, address)
    return found.status === 'mapped'
      ? [found.physical, found.writable, found.executable]
      : found.status
  }
  expect(physical(0x1f9e_d123n)).toEqual([0x1f9e_d123, true, true])
  expect(physical(0xffe0_0000n)).toEqual([0xffe0_0000, true, true])
  expect(physical(0xffff_fffe_ff7e_d123n)).toEqual([0x1f9e_d123, true, true])
  expect(physical(0xffff_fffe_feff_f008n)).toEqual([0x1eff_f008, true, true])
  expect(physical(0x1_0000_0000n)).toBe('not-present')
  expect(new Set(pages.map(({ level }) => level))).toEqual(new Set([1, 2, 3, 4]))
  expect(pages.filter(({ level }) => level === 4)).toMatchObject([{ address: root, linear: 0n }])
})

test('for 32-bit firmware they are of PAE paging, and regions lie over what is one to one', () => {
  const regions = [region(RuntimeServicesData, 0x1ec0_0000, 2, 0xdec0_0000n)]
  const place = { scratch: 0x200_0000, tables: 0x202_0000 }
  const { root, pages } = buildTables(place, regions, 'ia32')
  const memory = new PhysicalMemory()
  for (const { address, bytes } of pages) memory.write(address, bytes)
  const context = { ...contextFromRegisters({ memory, features: QEMU_TCG, cr3: root }), mode: PAE }
  const physical = (address: bigint): unknown => inspectAddress(context, address)
  expect(physical(0xdec0_1008n)).toMatchObject({ physical: 0x1ec0_1008, executable: true })
  expect(physical(0xdec0_2000n)).toMatchObject({ physical: 0xdec0_2000 })
  expect(physical(0x1ec0_1008n)).toMatchObject({ physical: 0x1ec0_1008, writable: true })
  expect(pages.map(({ level }) => level)).toContain(3)
  expect(pages.every(({ level }) => level <= 3)).toBe(true)
})
