import { expect, test } from 'vitest'
import {
  CmosClock,
  IoPorts,
  Machine,
  MachineReset,
  POWER_OFF_PORT,
  type PortDevice,
  RESET_CONTROL_PORT,
} from '../src/index.ts'

const INDEX = 0x70
const DATA = 0x71

class Latch implements PortDevice {
  readonly name = 'latch'
  readonly ports = [0x80, 0x81]
  readonly values = new Map<number, number>()

  in8(port: number): number {
    return this.values.get(port) ?? 0
  }

  out8(port: number, value: number): void {
    this.values.set(port, value)
  }

  fork(): Latch {
    const copy = new Latch()
    for (const [port, value] of this.values) copy.values.set(port, value)
    return copy
  }
}

test('a port that nobody answers reads as ones and swallows writes', () => {
  const ports = new IoPorts()
  ports.out8(0x80, 1)
  expect(ports.in8(0x80)).toBe(0xff)
})

test('a device answers its own ports, with bytes', () => {
  const ports = new IoPorts()
  ports.attach(new Latch())
  ports.out8(0x80, 0x1ff)
  ports.out8(0x81, 2)
  expect([ports.in8(0x80), ports.in8(0x81)]).toEqual([0xff, 2])
})

test('devices fork with their ports', () => {
  const ports = new IoPorts()
  ports.attach(new Latch())
  ports.out8(0x80, 1)
  const fork = ports.fork()
  fork.out8(0x80, 2)
  expect([ports.in8(0x80), fork.in8(0x80)]).toEqual([1, 2])
})

test('the CMOS clock stands at the day of the patch until it is set', () => {
  const { bootCpu: cpu } = new Machine()
  const register = (index: number): number => {
    cpu.out8(INDEX, index)
    return cpu.in8(DATA)
  }
  expect([0x32, 0x09, 0x08, 0x07, 0x04, 0x02, 0x00].map(register)).toEqual([
    20, 10, 8, 13, 14, 39, 25,
  ])
  cpu.out8(INDEX, 0x04)
  cpu.out8(DATA, 15)
  expect(register(0x04)).toBe(15)
})

test('the clock is in binary and 24-hour mode', () => {
  const clock = new CmosClock()
  clock.out8(INDEX, 0x0b)
  expect(clock.in8(DATA) & 0x06).toBe(0x06)
})

test('bit 7 of the index, which masks the NMI, selects no register', () => {
  const clock = new CmosClock()
  clock.out8(INDEX, 0x80 | 0x32)
  expect(clock.in8(DATA)).toBe(20)
})

test.each([
  ['a hard reset', RESET_CONTROL_PORT, 0x06, 'warm'],
  ['a full reset', RESET_CONTROL_PORT, 0x0e, 'cold'],
  ['sleep enable', POWER_OFF_PORT, 0x20, 'shutdown'],
] as const)('%s ends the run and is logged', (_, port, value, type) => {
  const machine = new Machine()
  expect(() => {
    machine.bootCpu.out8(port, value)
  }).toThrow(expect.objectContaining({ name: 'MachineReset', type }))
  expect(machine.log.events).toMatchObject([{ kind: 'reset', port, value }])
})

test.each([
  ['the reset type without the reset', RESET_CONTROL_PORT, 0x02],
  ['a sleep type without sleep enable', POWER_OFF_PORT, 0x1c],
])('%s does nothing', (_, port, value) => {
  const machine = new Machine()
  expect(() => {
    machine.bootCpu.out8(port, value)
  }).not.toThrow(MachineReset)
  expect(machine.log.events).toEqual([])
})
