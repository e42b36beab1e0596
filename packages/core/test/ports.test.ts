import { expect, test } from 'vitest'
import { IoPorts, type PortDevice } from '../src/index.ts'

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
