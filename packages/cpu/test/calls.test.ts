import { EndlessCode, Gpr, InvalidOpcode, PageFault, SKYLAKE_SP, virt, ZEN4 } from '@trapdoor/core'
import { beforeEach, expect, test } from 'vitest'
import { MissingInstruction } from '../src/index.ts'
import {
  CODE,
  CODE_PHYSICAL,
  type CodeMachine,
  codeMachine,
  DATA,
  STACK_TOP,
} from './code-machine.ts'

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
})

function place(offset: number, ...bytes: readonly number[]): void {
  target.machine.memory.write(CODE_PHYSICAL + offset, Uint8Array.from(bytes))
}

test('a call passes arguments in registers and on the stack, and returns RAX', () => {
  // lea rax, [rcx + rdx]; add rax, r8; add rax, r9; add rax, [rsp + 0x28]; add rax, [rsp + 0x30]; ret
  place(0, 0x48, 0x8d, 0x04, 0x11, 0x4c, 0x01, 0xc0, 0x4c, 0x01, 0xc8, 0x48, 0x03, 0x44, 0x24, 0x28)
  place(15, 0x48, 0x03, 0x44, 0x24, 0x30, 0xc3)
  expect(target.cpu.call(CODE, 1n, 20n, 300n, 4000n, 50_000n, 1n << 40n)).toBe(
    (1n << 40n) + 54_321n,
  )
  expect(target.cpu.rsp).toBe(STACK_TOP)
  expect(target.cpu.calls).toEqual([])
  expect(target.cpu.instructions).toBe(6)
})

test('the stack is as UEFI wants it when the first instruction runs', () => {
  // mov rax, rsp; ret
  place(0, 0x48, 0x89, 0xe0, 0xc3)
  target.cpu.rsp = STACK_TOP - 0x1234n
  const top = target.cpu.call(CODE, 1n, 2n, 3n, 4n, 5n)
  expect((top + 8n) % 16n).toBe(0n)
  expect(target.cpu.read64(top + 0x28n)).toBe(5n)
})

test('machine code calls a gate with the same convention, and goes on behind the call', () => {
  const { machine, cpu } = target
  const seen: bigint[] = []
  const gate = machine.gates.bind({
    name: 'Sum',
    image: 'Model',
    run: ({ args, rip }) => {
      const [a, b, c, d, e] = args
      seen.push(rip, a!, b!, c!, d!, e!)
      expect(cpu.calls.map(({ gate: { name, image } }) => `${image}: ${name}`)).toEqual([
        'Driver: 0x0000000000400000',
        'Model: Sum',
      ])
      return 42n
    },
  })
  machine.memory.owners.set(0x200, 0x210, { kind: 'firmware', name: 'Driver' })
  place(0x100, ...gate)
  // sub rsp, 40; mov qword [rsp + 32], 5; call gate; add rsp, 40; inc rax; ret
  place(0, 0x48, 0x83, 0xec, 0x28, 0x48, 0xc7, 0x44, 0x24, 0x20, 5, 0, 0, 0)
  place(13, 0xe8, 0xee, 0, 0, 0, 0x48, 0x83, 0xc4, 0x28, 0x48, 0xff, 0xc0, 0xc3)
  expect(cpu.call(CODE, 1n, 2n, 3n, 4n)).toBe(43n)
  expect(seen).toEqual([CODE + 0x100n, 1n, 2n, 3n, 4n, 5n])
  const calls = machine.log.events.filter(({ kind }) => kind === 'call' || kind === 'return')
  expect(calls).toMatchObject([
    { kind: 'call', name: '0x0000000000400000', image: 'Driver' },
    { kind: 'call', name: 'Sum', image: 'Model' },
    { kind: 'return', name: 'Sum', rax: 42n },
    { kind: 'return', image: 'Driver', rax: 43n },
  ])
})

test('a fault names the instruction, and running again repeats it', () => {
  const { cpu, machine, interpreter, tables } = target
  // mov rax, rdx; mov rax, [rcx]; ret
  place(0, 0x48, 0x89, 0xd0, 0x48, 0x8b, 0x01, 0xc3)
  const missing = 0x90_0000n
  expect(() => cpu.call(CODE, missing, 7n)).toThrow(PageFault)
  expect(cpu.rip).toBe(CODE + 3n)
  expect(cpu.general64[Gpr.RAX]).toBe(7n)
  expect(cpu.cr2).toBe(missing)
  expect(cpu.calls.at(-1)?.rip).toBe(CODE + 3n)
  expect(machine.log.events.at(-1)).toMatchObject({ kind: 'exception', mnemonic: '#PF' })
  tables.mapRange(virt(missing), tables.root, 4096)
  interpreter.step(cpu)
  expect(cpu.general64[Gpr.RAX]).toBe(machine.memory.read64(tables.root))
  expect(cpu.rip).toBe(CODE + 6n)
})

test('bytes that are no instruction are #UD, with their address', () => {
  place(0, 0x90, 0x0f, 0x0b)
  let thrown: unknown
  try {
    target.cpu.call(CODE)
  } catch (error) {
    thrown = error
  }
  expect(thrown).toBeInstanceOf(InvalidOpcode)
  expect(thrown).toMatchObject({ address: CODE + 1n, site: { rip: CODE + 1n } })
})

test('an instruction that is missing says which one, where, and in which image', () => {
  target.machine.memory.owners.set(0x200, 0x210, { kind: 'firmware', name: 'Driver' })
  // vaddps ymm0, ymm1, ymm2
  place(0, 0x90, 0xc5, 0xf4, 0x58, 0xc2)
  let thrown: unknown
  try {
    target.cpu.call(CODE)
  } catch (error) {
    thrown = error
  }
  expect(thrown).toBeInstanceOf(MissingInstruction)
  expect(thrown).toMatchObject({
    code: 'CPU_MISSING_INSTRUCTION',
    address: CODE + 1n,
    image: 'Driver',
    text: 'vaddps ymm0,ymm1,ymm2',
  })
  expect(target.cpu.rip).toBe(CODE + 1n)
})

test('a call that takes more instructions than it may ends, and says where it was', () => {
  const { machine, cpu } = target
  machine.memory.owners.set(0x200, 0x210, { kind: 'firmware', name: 'Driver' })
  machine.instructionLimit = 1000
  // nop; mov ecx, 499; loop $; ret: 501 instructions
  place(0, 0x90, 0xb9, 0xf3, 1, 0, 0, 0xe2, 0xfe, 0xc3)
  cpu.call(CODE)
  expect(cpu.instructions).toBe(502)
  // nop; jmp $
  place(0, 0x90, 0xeb, 0xfe)
  expect(() => cpu.call(CODE)).toThrow(EndlessCode)
  expect([cpu.instructions, cpu.rip]).toEqual([1502, CODE + 1n])
  expect(() => cpu.call(CODE)).toThrow(
    'does not return: Driver goes on and on, after 1,000 instructions at 0x0000000000400001',
  )
})

test('a call that halts the processor ends there', () => {
  place(0, 0x90, 0xf4)
  expect(() => target.cpu.call(CODE)).toThrow(/has halted the processor at 0x0000000000400002$/)
})

test('without an executor machine code is #UD', () => {
  target.machine.executor = undefined
  place(0, 0xc3, 0, 0, 0, 0, 0, 0, 0)
  expect(() => target.cpu.call(CODE)).toThrow(InvalidOpcode)
})

test('a fault on the way to the first instruction is the fetch', () => {
  expect(() => target.cpu.call(DATA)).toThrow(
    expect.objectContaining({ access: 'execute', address: DATA, errorCode: 0x11 }),
  )
})

test('a near branch with an operand-size prefix goes on on Intel’s processors, and stops on AMD’s, where it would end elsewhere', () => {
  const jumps = [
    // JMP, CALL, JE behind CMP, RET
    [0x66, 0xe9, 0, 0, 0, 0],
    [0x90, 0x66, 0xe8, 0, 0, 0, 0],
    [0x39, 0xc0, 0x66, 0x74, 0],
    [0x66, 0xc3],
  ]
  for (const code of jumps) {
    const amd = codeMachine({ features: ZEN4 })
    amd.machine.memory.write(CODE_PHYSICAL, Uint8Array.from(code))
    amd.cpu.rip = CODE
    amd.cpu.rsp = STACK_TOP - 8n
    expect(() => amd.interpreter.run(amd.cpu, { maxInstructions: 4 })).toThrow(MissingInstruction)
  }
  // With REX.W it counts for nobody: CALL, as compilers write it for thread-local storage.
  const { machine, interpreter, cpu } = codeMachine({ features: ZEN4 })
  machine.memory.write(CODE_PHYSICAL, Uint8Array.of(0x66, 0x66, 0x48, 0xe8, 1, 0, 0, 0, 0x90, 0x90))
  cpu.rip = CODE
  interpreter.run(cpu, { maxInstructions: 1 })
  expect(cpu.rip).toBe(CODE + 9n)
  const intel = codeMachine({ features: SKYLAKE_SP })
  intel.machine.memory.write(CODE_PHYSICAL, Uint8Array.from(jumps[0]!))
  intel.cpu.rip = CODE
  intel.interpreter.run(intel.cpu, { maxInstructions: 1 })
  expect(intel.cpu.rip).toBe(CODE + 6n)
})
