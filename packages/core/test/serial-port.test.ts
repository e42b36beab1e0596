import { describe, expect, test } from 'vitest'
import { COM1, Machine, SerialPort } from '../src/index.ts'

function attached(): { readonly machine: Machine; readonly text: () => string } {
  let text = ''
  const machine = new Machine()
  machine.ports.attach(new SerialPort((byte) => (text += String.fromCharCode(byte))))
  return { machine, text: () => text }
}

describe('a serial port', () => {
  test('sends what is written while its divisor is not in the way', () => {
    const { machine, text } = attached()
    const { bootCpu: cpu } = machine
    cpu.out8(COM1 + 3, 0x83)
    cpu.out8(COM1, 0x01)
    cpu.out8(COM1 + 1, 0x02)
    expect([cpu.in8(COM1), cpu.in8(COM1 + 1)]).toEqual([0x01, 0x02])
    cpu.out8(COM1 + 3, 0x03)
    for (const letter of 'ok') {
      expect(cpu.in8(COM1 + 5) & 0x20).toBe(0x20)
      cpu.out8(COM1, letter.charCodeAt(0))
    }
    expect(text()).toBe('ok')
    expect(cpu.in8(COM1 + 3)).toBe(0x03)
  })

  test('looks like a 16550A: scratch register, FIFOs, modem lines', () => {
    const { bootCpu: cpu } = attached().machine
    cpu.out8(COM1 + 7, 0x5a)
    cpu.out8(COM1 + 2, 0x01)
    cpu.out8(COM1 + 1, 0xff)
    expect([7, 2, 1, 6].map((register) => cpu.in8(COM1 + register))).toEqual([
      0x5a, 0xc1, 0x0f, 0xb0,
    ])
  })

  test('in loopback mode receives what it sends, and its modem inputs are its outputs', () => {
    const { machine, text } = attached()
    const { bootCpu: cpu } = machine
    cpu.out8(COM1 + 4, 0x1a)
    expect(cpu.in8(COM1 + 6)).toBe(0x90)
    cpu.out8(COM1, 0x42)
    expect(cpu.in8(COM1 + 5)).toBe(0x61)
    expect([cpu.in8(COM1), cpu.in8(COM1 + 5), text()]).toEqual([0x42, 0x60, ''])
  })

  test('is the same in a fork, and sends to the same listener', () => {
    const { machine, text } = attached()
    machine.bootCpu.out8(COM1 + 7, 0x33)
    const fork = machine.fork().bootCpu
    fork.out8(COM1, 0x46)
    fork.out8(COM1 + 7, 0x44)
    expect([fork.in8(COM1 + 7), machine.bootCpu.in8(COM1 + 7), text()]).toEqual([0x44, 0x33, 'F'])
  })
})
