import { beforeEach, expect, test } from 'vitest'
import { type Cpu, GeneralProtection, PAGE_SIZE, PageFault, phys, virt } from '../src/index.ts'
import { type MappedMachine, mappedMachine } from './mapped-machine.ts'

const FIRST = 0x40_0000n
const EDGE = FIRST + 0x1000n

let mapped: MappedMachine
let cpu: Cpu

/** Two pages that are neighbours as addresses and far apart in memory, and none after them. */
beforeEach(() => {
  mapped = mappedMachine()
  cpu = mapped.cpu
  mapped.tables.mapRange(virt(FIRST), phys(0x20_0000), PAGE_SIZE)
  mapped.tables.mapRange(virt(EDGE), phys(0x1_0000_0000), PAGE_SIZE)
})

test.each([1n, 2n, 3n, 7n])(
  'values that cross into the next page by %i bytes are whole',
  (over) => {
    const at = EDGE - 8n + over
    cpu.write64(at, 0x8877_6655_4433_2211n)
    expect(cpu.read64(at)).toBe(0x8877_6655_4433_2211n)
    cpu.write32(EDGE - 4n + (over & 3n), 0xdead_beef)
    expect(cpu.read32(EDGE - 4n + (over & 3n))).toBe(0xdead_beef)
    cpu.write16(EDGE - 1n, 0xcafe)
    expect(cpu.read16(EDGE - 1n)).toBe(0xcafe)
    expect([cpu.read8(EDGE - 1n), cpu.read8(EDGE)]).toEqual([0xfe, 0xca])
  },
)

test('bytes are written up to the page that faults', () => {
  const end = EDGE + 0x1000n
  expect(() => {
    cpu.writeBytes(end - 2n, Uint8Array.of(1, 2, 3, 4))
  }).toThrow(expect.objectContaining({ name: 'PageFault', address: end }))
  expect([...cpu.readBytes(end - 2n, 2)]).toEqual([1, 2])
})

test('a read that reaches into a page that is not there faults at that page', () => {
  expect(() => cpu.readBytes(EDGE + 0xff0n, 0x20)).toThrow(PageFault)
  expect(cpu.cr2).toBe(EDGE + 0x1000n)
})

test.each([0x8000_0000_0000n, 0xffff_7fff_ffff_ffffn, 1n << 64n, -1n])(
  'address %i is not canonical: a general protection fault, not a page fault',
  (address) => {
    expect(() => cpu.read8(address)).toThrow(GeneralProtection)
  },
)
