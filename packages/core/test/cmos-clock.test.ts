import { expect, test } from 'vitest'
import { CmosClock, cmosRegisters, Machine } from '../src/index.ts'

const INDEX = 0x70
const DATA = 0x71
const TIME_REGISTERS = [0x32, 0x09, 0x08, 0x07, 0x06, 0x04, 0x02, 0x00]

function read(clock: CmosClock, register: number): number {
  clock.out8(INDEX, register)
  return clock.in8(DATA)
}

function write(clock: CmosClock, register: number, value: number): void {
  clock.out8(INDEX, register)
  clock.out8(DATA, value)
}

test('the clock of a machine stands at the day of the patch, in binary and 24-hour mode, until it is set', () => {
  const { bootCpu: cpu } = new Machine()
  const register = (index: number): number => {
    cpu.out8(INDEX, index)
    return cpu.in8(DATA)
  }
  expect(TIME_REGISTERS.map(register)).toEqual([20, 10, 8, 13, 6, 14, 39, 25])
  expect(register(0x0b)).toBe(0x06)
  cpu.out8(INDEX, 0x04)
  cpu.out8(DATA, 15)
  expect(register(0x04)).toBe(15)
})

test('a clock in BCD says so, and has digits', () => {
  const clock = new CmosClock(cmosRegisters({ bcd: true }))
  expect(read(clock, 0x0b)).toBe(0x02)
  expect(TIME_REGISTERS.map((register) => read(clock, register))).toEqual([
    0x20, 0x10, 0x08, 0x13, 0x06, 0x14, 0x39, 0x25,
  ])
})

test('the time is whatever it is set up with', () => {
  const time = {
    year: 1999,
    month: 12,
    day: 31,
    dayOfWeek: 6,
    hour: 23,
    minute: 59,
    second: 58,
  }
  const clock = new CmosClock(cmosRegisters({ time, bcd: true }))
  expect(TIME_REGISTERS.map((register) => read(clock, register))).toEqual([
    0x19, 0x99, 0x12, 0x31, 0x06, 0x23, 0x59, 0x58,
  ])
})

test('the index cannot be read back, and its bit 7, which masks the NMI, selects no register', () => {
  const clock = new CmosClock()
  clock.out8(INDEX, 0x80 | 0x32)
  expect(clock.in8(INDEX)).toBe(0xff)
  expect(clock.in8(DATA)).toBe(20)
})

test('no update is in progress, whoever tries to say so', () => {
  const clock = new CmosClock()
  expect(read(clock, 0x0a)).toBe(0x26)
  write(clock, 0x0a, 0xff)
  expect(read(clock, 0x0a)).toBe(0x7f)
})

test('setting the time switches the interrupt of updates off', () => {
  const clock = new CmosClock()
  write(clock, 0x0b, 0x92)
  expect(read(clock, 0x0b)).toBe(0x82)
  write(clock, 0x0b, 0x12)
  expect(read(clock, 0x0b)).toBe(0x12)
})

test('flags are cleared by reading them and cannot be written, and the battery is good', () => {
  const registers = cmosRegisters()
  registers[0x0c] = 0xa0
  const clock = new CmosClock(registers)
  write(clock, 0x0c, 0xff)
  expect([read(clock, 0x0c), read(clock, 0x0c)]).toEqual([0xa0, 0])
  write(clock, 0x0d, 0)
  expect(read(clock, 0x0d)).toBe(0x80)
})

test('the century has a second place, that of the PS/2', () => {
  const clock = new CmosClock()
  write(clock, 0x37, 21)
  expect([read(clock, 0x32), read(clock, 0x37)]).toEqual([21, 21])
})

test('a fork has its own registers and its own index', () => {
  const clock = new CmosClock()
  clock.out8(INDEX, 0x40)
  const fork = clock.fork()
  fork.out8(DATA, 7)
  clock.out8(DATA, 9)
  expect([clock.registers()[0x40], fork.registers()[0x40]]).toEqual([9, 7])
})
