import { beforeEach, expect, test } from 'vitest'
import { type MemoryDevice, type MemoryDeviceHost, PAGE_SIZE, phys, virt } from '../src/index.ts'
import { type MappedMachine, mappedMachine } from './mapped-machine.ts'

const ADDRESS = 0x40_0000n
const START = 0xfed0_0000

/** Remembers what it was asked; it reads as memory while its first byte there is 1. */
class Probe implements MemoryDevice {
  readonly name = 'probe'
  readonly start = START
  readonly end = START + PAGE_SIZE
  readonly seen: string[] = []
  readonly #memory: MemoryDeviceHost

  constructor(memory: MemoryDeviceHost) {
    this.#memory = memory
  }

  get readsAsMemory(): boolean {
    return this.#memory.read8(START) === 1
  }

  read(offset: number, size: number): number {
    this.seen.push(`read ${offset} ${size}`)
    return 0x80 + offset
  }

  write(offset: number, size: number, value: number): void {
    this.seen.push(`write ${offset} ${size} ${value.toString(16)}`)
    if (offset === 0) this.#memory.write8(START, value & 0xff)
  }

  fork(memory: MemoryDeviceHost): Probe {
    return new Probe(memory)
  }
}

let mapped: MappedMachine
let probe: Probe

beforeEach(() => {
  mapped = mappedMachine()
  mapped.tables.mapRange(virt(ADDRESS), phys(START), PAGE_SIZE)
  probe = new Probe(mapped.machine.memory)
  mapped.machine.memory.attachDevice(probe)
})

test('a device answers the accesses of a CPU, in pieces of 4 bytes at the most', () => {
  const { cpu } = mapped
  expect(cpu.read8(ADDRESS + 1n)).toBe(0x81)
  expect(cpu.read16(ADDRESS + 2n)).toBe(0x82)
  expect(cpu.read32(ADDRESS + 4n)).toBe(0x84)
  expect(cpu.read64(ADDRESS + 8n)).toBe(0x8c_0000_0088n)
  cpu.write8(ADDRESS + 1n, 0x1ff)
  cpu.write16(ADDRESS + 2n, 0x2_3456)
  cpu.write32(ADDRESS + 4n, -1)
  cpu.write64(ADDRESS + 8n, 0x1122_3344_5566_7788n)
  cpu.writeBytes(ADDRESS + 1n, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))
  expect([...cpu.readBytes(ADDRESS + 3n, 2)]).toEqual([0x83, 0x84])
  expect(probe.seen).toEqual([
    'read 1 1',
    'read 2 2',
    'read 4 4',
    'read 8 4',
    'read 12 4',
    'write 1 1 ff',
    'write 2 2 3456',
    'write 4 4 ffffffff',
    'write 8 4 55667788',
    'write 12 4 11223344',
    'write 1 1 1',
    'write 2 2 302',
    'write 4 4 7060504',
    'write 8 1 8',
    'read 3 1',
    'read 4 1',
  ])
})

test('a device that reads as memory is not asked, and is told of writes', () => {
  const { cpu, machine } = mapped
  machine.memory.write32(START, 0x1234_5601)
  expect(cpu.read32(ADDRESS)).toBe(0x1234_5601)
  cpu.write8(ADDRESS, 2)
  expect(cpu.read32(ADDRESS)).toBe(0x80)
  expect(probe.seen).toEqual(['write 0 1 2', 'read 0 4'])
})

test('memory that is looked into past the CPU does not ask the device', () => {
  expect(mapped.machine.memory.read8(START)).toBe(0)
  expect(probe.seen).toEqual([])
})

test('a fork has a device of its own', () => {
  const fork = mapped.machine.fork()
  mapped.cpu.write8(ADDRESS, 1)
  expect(mapped.cpu.read8(ADDRESS)).toBe(1)
  expect(fork.bootCpu.read8(ADDRESS)).toBe(0x80)
  expect(probe.seen).toEqual(['write 0 1 1'])
  expect(fork.memory.deviceAt(START / PAGE_SIZE)).toBeInstanceOf(Probe)
  expect(fork.memory.deviceAt(START / PAGE_SIZE + 1)).toBeUndefined()
})

test('devices have whole pages, each for itself', () => {
  const { memory } = mapped.machine
  expect(() => memory.attachDevice(new Probe(memory))).toThrow(
    expect.objectContaining({ code: 'CORE_DEVICE_OVERLAP' }),
  )
  const odd = Object.assign(Object.create(probe), {
    start: START + 0x10_0010,
    end: START + 0x10_1000,
  })
  expect(() => memory.attachDevice(odd as MemoryDevice)).toThrow(
    expect.objectContaining({ code: 'CORE_MISALIGNED' }),
  )
})
