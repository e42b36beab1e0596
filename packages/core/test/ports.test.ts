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

test('16 and 32 bits are bytes of the ports from one up, unless the device takes them whole', () => {
  const ports = new IoPorts()
  ports.attach(new Latch())
  ports.out16(0x80, 0x1_2211)
  expect([ports.in8(0x80), ports.in8(0x81)]).toEqual([0x11, 0x22])
  expect(ports.in16(0x80)).toBe(0x2211)
  ports.out32(0x80, -1)
  expect(ports.in32(0x80)).toBe(0xffff_ffff)
  const seen: [number, number][] = []
  ports.attach({
    name: 'wide',
    ports: [0xcf8],
    in8: () => 1,
    out8: () => {},
    in16: () => 0x1_0002,
    in32: () => -3,
    out16: (port, value) => seen.push([port, value]),
    out32: (port, value) => seen.push([port, value]),
    fork: () => new Latch(),
  })
  expect([ports.in8(0xcf8), ports.in16(0xcf8), ports.in32(0xcf8)]).toEqual([1, 2, 0xffff_fffd])
  ports.out16(0xcf8, 0x1_2345)
  ports.out32(0xcf8, -2)
  expect(seen).toEqual([
    [0xcf8, 0x2345],
    [0xcf8, 0xffff_fffe],
  ])
})
