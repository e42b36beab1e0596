import { Gpr, type Machine, phys, virt } from '@trapdoor/core'
import { beforeEach, describe, expect, test } from 'vitest'
import { CODE, CODE_PHYSICAL, type CodeMachine, codeMachine, DATA } from './code-machine.ts'

/** mov eax, value; ret */
const returning = (value: number): number[] => [0xb8, value, 0, 0, 0, 0xc3]

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
})

function place(offset: number, bytes: readonly number[], machine: Machine = target.machine): void {
  machine.memory.write(CODE_PHYSICAL + offset, Uint8Array.from(bytes))
}

describe('code that was decoded and is written to', () => {
  beforeEach(() => {
    place(0, returning(1))
    target.cpu.call(CODE)
  })

  test.each<[string, (machine: Machine) => void]>([
    ['a byte of memory', ({ memory }) => memory.write8(CODE_PHYSICAL + 1, 2)],
    ['two bytes', ({ memory }) => memory.write16(CODE_PHYSICAL + 1, 2)],
    ['a word that begins before it', ({ memory }) => memory.write32(CODE_PHYSICAL, 0x0000_02b8)],
    ['bytes', (machine) => place(0, returning(2), machine)],
    ['a store through the MMU', ({ bootCpu }) => bootCpu.write8(CODE + 1n, 2)],
    [
      'the words of the frame',
      ({ memory }) => {
        const words = memory.locateForWrite(CODE_PHYSICAL / 4096)
        words[memory.base] = 0x0000_02b8
      },
    ],
  ])('is decoded again after %s', (_name, write) => {
    write(target.machine)
    expect(target.cpu.call(CODE)).toBe(2n)
  })

  test('is zeros after its frame was cleared, and whatever a fill says', () => {
    const { memory } = target.machine
    memory.clearFrame(CODE_PHYSICAL / 4096)
    // 00 00: add [rax], al
    target.cpu.general64[Gpr.RAX] = 0x90_0000n
    expect(() => target.cpu.call(CODE)).toThrow(expect.objectContaining({ access: 'write' }))
    target.cpu.abandonCalls()
    memory.fill(CODE_PHYSICAL, CODE_PHYSICAL + 4096, 0xc3c3_c3c3 | 0)
    target.cpu.general64[Gpr.RAX] = 5n
    expect(target.cpu.call(CODE)).toBe(5n)
  })

  test('is decoded again in a machine that went back to before', () => {
    const { memory } = target.machine
    const rewind = memory.checkpoint()
    place(0, returning(2))
    expect(target.cpu.call(CODE)).toBe(2n)
    rewind()
    expect(target.cpu.call(CODE)).toBe(1n)
    place(0, returning(3))
    expect(target.cpu.call(CODE)).toBe(3n)
    rewind()
    expect(target.cpu.call(CODE)).toBe(1n)
  })
})

describe('forks', () => {
  test('write to their own code, and to nobody else’s', () => {
    place(0, returning(1))
    expect(target.cpu.call(CODE)).toBe(1n)
    const first = target.machine.fork()
    const second = target.machine.fork()
    place(0, returning(2), first)
    expect(first.bootCpu.call(CODE)).toBe(2n)
    expect(second.bootCpu.call(CODE)).toBe(1n)
    place(0, returning(3))
    expect(target.cpu.call(CODE)).toBe(3n)
    expect(second.bootCpu.call(CODE)).toBe(1n)
    const third = first.fork()
    expect(third.bootCpu.call(CODE)).toBe(2n)
    place(0, returning(4), third)
    expect([third, first, second, target.machine].map((each) => each.bootCpu.call(CODE))).toEqual([
      4n,
      2n,
      1n,
      3n,
    ])
  })

  test('of a machine with a flat window keep their code apart, too', () => {
    target = codeMachine({ flatWindow: 0x100_0000 })
    place(0, returning(1))
    expect(target.cpu.call(CODE)).toBe(1n)
    place(0, returning(2))
    expect(target.cpu.call(CODE)).toBe(2n)
    const fork = target.machine.fork()
    expect(fork.bootCpu.call(CODE)).toBe(2n)
    place(0, returning(3), fork)
    place(0, returning(4))
    expect(fork.bootCpu.call(CODE)).toBe(3n)
    expect(target.cpu.call(CODE)).toBe(4n)
  })
})

describe('code that writes to itself', () => {
  test('is seen by the next instruction, in the same block', () => {
    // mov byte [rip + 1], 7; mov eax, 1; ret. The store changes the immediate of the second.
    place(0, [0xc6, 0x05, 0x01, 0, 0, 0, 7, 0xb8, 1, 0, 0, 0, 0xc3])
    expect(target.cpu.call(CODE)).toBe(7n)
    expect(target.cpu.instructions).toBe(3)
  })

  test('is seen by the next iteration of a loop', () => {
    // mov ecx, 3; xor eax, eax; again: add eax, 1; inc byte [rip - 7] (the immediate); dec ecx; jnz again; ret
    place(0, [0xb9, 3, 0, 0, 0, 0x31, 0xc0, 0x83, 0xc0, 1, 0xfe, 0x05, 0xf9, 0xff, 0xff, 0xff])
    place(16, [0xff, 0xc9, 0x75, 0xf3, 0xc3])
    expect(target.cpu.call(CODE)).toBe(1n + 2n + 3n)
  })

  test('may keep its data beside its code', () => {
    // again: inc dword [rip + 0x100]; cmp dword [rip + 0xf6], 100; jne again; mov eax, [rip + 0xee]; ret
    place(0, [0xff, 0x05, 0, 1, 0, 0, 0x83, 0x3d, 0xf9, 0, 0, 0, 100, 0x75, 0xf1])
    place(15, [0x8b, 0x05, 0xf1, 0, 0, 0, 0xc3])
    expect(target.cpu.call(CODE)).toBe(100n)
  })
})

test('code is what the page tables say now', () => {
  const { cpu, tables, machine } = target
  place(0, returning(1))
  machine.memory.write(0x50_0000, Uint8Array.from(returning(2)))
  expect(cpu.call(CODE)).toBe(1n)
  tables.unmapRange(virt(CODE), 4096)
  tables.mapRange(virt(CODE), phys(0x50_0000), 4096, { executable: true })
  // The TLB still holds the old translation.
  expect(cpu.call(CODE)).toBe(1n)
  expect(machine.log.events.filter(({ kind }) => kind === 'stale-translation')).toMatchObject([
    { access: 'execute', address: CODE, via: 'TLB' },
  ])
  cpu.invlpg(CODE)
  expect(cpu.call(CODE)).toBe(2n)
})

test('the same frame at two addresses is the same code, relative to where it is', () => {
  const { cpu, tables } = target
  const alias = 0x7f00_0000_0000n
  tables.mapRange(virt(alias), phys(CODE_PHYSICAL), 4096, { executable: true })
  // lea rax, [rip]; ret
  place(0, [0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xc3])
  expect(cpu.call(CODE)).toBe(CODE + 7n)
  expect(cpu.call(alias)).toBe(alias + 7n)
})

describe('an instruction in two pages', () => {
  beforeEach(() => {
    // mov eax, 1 with two bytes in the first page; ret
    place(4096 - 2, returning(1))
  })

  test('is carried out, as often as wanted', () => {
    expect(target.cpu.call(CODE + 4094n)).toBe(1n)
    expect(target.cpu.call(CODE + 4094n)).toBe(1n)
  })

  test.each([
    ['first', -1],
    ['second', 1],
  ])('is decoded again when its %s page is written to', (_name, offset) => {
    const { cpu, machine } = target
    expect(cpu.call(CODE + 4094n)).toBe(1n)
    machine.memory.write8(CODE_PHYSICAL + 4096 + offset, 2)
    expect(cpu.call(CODE + 4094n)).toBe(offset < 0 ? 2n : 1n + 0x200n * 0x100n)
  })

  test('is another one where another page follows', () => {
    const { cpu, tables, machine } = target
    const other = 0x7f00_0000_0000n
    tables.mapRange(virt(other), phys(CODE_PHYSICAL), 4096, { executable: true })
    tables.mapRange(virt(other + 4096n), phys(0x50_0000), 4096, { executable: true })
    machine.memory.write(0x50_0000, Uint8Array.of(0, 0, 1, 0xc3))
    for (let round = 0; round < 2; round++) {
      expect(cpu.call(CODE + 4094n)).toBe(1n)
      expect(cpu.call(other + 4094n)).toBe(0x0100_0001n)
    }
  })

  test('faults at the second page, as the instruction that it is', () => {
    const { cpu, tables } = target
    tables.changeRange(virt(CODE + 4096n), 4096, (low) => [low, -0x8000_0000])
    expect(() => cpu.call(CODE + 4094n)).toThrow(
      expect.objectContaining({ access: 'execute', address: CODE + 4096n, errorCode: 0x11 }),
    )
    expect(cpu.rip).toBe(CODE + 4094n)
  })
})

test('a store to data that looks like code changes nothing but data', () => {
  // mov byte [rcx], 0xcc; mov al, [rcx]; ret
  place(0, [0xc6, 0x01, 0xcc, 0x8a, 0x01, 0xc3])
  target.cpu.general64[Gpr.RAX] = 0n
  expect(target.cpu.call(CODE, DATA)).toBe(0xccn)
})
