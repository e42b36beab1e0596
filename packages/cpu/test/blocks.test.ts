import { Gpr, PageFault } from '@trapdoor/core'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import {
  CODE,
  CODE_PHYSICAL,
  type CodeMachine,
  codeMachine,
  DATA,
  DATA_PHYSICAL,
  STACK_TOP,
} from './code-machine.ts'
import { sizePrefix, word } from './whole-numbers.ts'

const RETURN = 0x70_0000n
/** Registers that random code may change: RSP stays a stack, and RDI points to data. */
const REGISTERS = [0, 1, 2, 3, 5, 6]

/** ModRM of two registers, or of a register and [rdi + disp8]. */
const operands = fc.oneof(
  fc
    .tuple(fc.constantFrom(...REGISTERS), fc.constantFrom(...REGISTERS))
    .map(([reg, rm]) => [0xc0 | (reg << 3) | rm]),
  fc
    .tuple(fc.constantFrom(...REGISTERS), fc.nat(0x78))
    .map(([reg, displacement]) => [0x47 | (reg << 3), displacement]),
)
const register = fc.constantFrom(...REGISTERS)
const wide = fc.constantFrom(16, 32, 64)
const byte = fc.nat(255)

/** An instruction with the prefix of its operand size. */
function sizedCode(bits: number, ...parts: readonly (number | number[])[]): number[] {
  return sizePrefix(bits).concat(...parts)
}

/** Instructions of which each may stand anywhere. */
const instruction: fc.Arbitrary<number[]> = fc.oneof(
  // add, or, adc, sbb, and, sub, xor, cmp
  fc
    .tuple(fc.nat(7), fc.constantFrom(1, 3), wide, operands)
    .map(([operation, form, bits, rest]) => sizedCode(bits, operation * 8 + form, rest)),
  fc
    .tuple(fc.nat(7), wide, register, byte)
    .map(([operation, bits, rm, value]) =>
      sizedCode(bits, 0x83, 0xc0 | (operation << 3) | rm, value),
    ),
  // test
  fc.tuple(wide, operands).map(([bits, rest]) => sizedCode(bits, 0x85, rest)),
  // rol, ror, rcl, rcr, shl, shr, shl, sar by an immediate and by CL
  fc
    .tuple(fc.nat(7), wide, register, byte)
    .map(([operation, bits, rm, count]) =>
      sizedCode(bits, 0xc1, 0xc0 | (operation << 3) | rm, count),
    ),
  fc
    .tuple(fc.nat(7), wide, register)
    .map(([operation, bits, rm]) => sizedCode(bits, 0xd3, 0xc0 | (operation << 3) | rm)),
  // inc, dec; not, neg
  fc
    .tuple(fc.nat(1), wide, register)
    .map(([operation, bits, rm]) => sizedCode(bits, 0xff, 0xc0 | (operation << 3) | rm)),
  fc
    .tuple(fc.constantFrom(2, 3), wide, register)
    .map(([operation, bits, rm]) => sizedCode(bits, 0xf7, 0xc0 | (operation << 3) | rm)),
  // imul; mov; lea [rm + disp8]; movzx, movsx of a byte; bswap
  fc.tuple(wide, operands).map(([bits, rest]) => sizedCode(bits, 0x0f, 0xaf, rest)),
  fc
    .tuple(fc.constantFrom(0x89, 0x8b), wide, operands)
    .map(([form, bits, rest]) => sizedCode(bits, form, rest)),
  fc
    .tuple(wide, register, fc.constantFrom(0, 1, 2, 3, 5, 6, 7), byte)
    .map(([bits, reg, base, displacement]) =>
      sizedCode(bits, 0x8d, 0x40 | (reg << 3) | base, displacement),
    ),
  fc
    .tuple(fc.constantFrom(0xb6, 0xbe, 0xb7, 0xbf), fc.constantFrom(32, 64), operands)
    .map(([form, bits, rest]) => sizedCode(bits, 0x0f, form, rest)),
  fc.tuple(fc.constantFrom(32, 64), register).map(([bits, rm]) => sizedCode(bits, 0x0f, 0xc8 | rm)),
  // setcc, cmovcc
  fc
    .tuple(fc.nat(15), operands)
    .map(([condition, rest]) => [0x40, 0x0f, 0x90 | condition].concat(rest)),
  fc
    .tuple(fc.nat(15), wide, operands)
    .map(([condition, bits, rest]) => sizedCode(bits, 0x0f, 0x40 | condition, rest)),
  // push and pop of the same register; pushf and pop
  register.map((reg) => [0x50 | reg, 0x58 | reg]),
  register.map((reg) => [0x9c, 0x58 | reg]),
  // jcc, jmp and call over a byte that is no instruction
  fc.nat(15).map((condition) => [0x70 | condition, 1, 0x90]),
  fc
    .boolean()
    .map((isCall) =>
      isCall ? [0xe8, 1, 0, 0, 0, 0x06, 0x48, 0x8d, 0x64, 0x24, 8] : [0xeb, 1, 0x06],
    ),
)

/** A comparison and a jump behind it, over some instructions. */
const branch: fc.Arbitrary<number[]> = fc
  .tuple(
    fc.constantFrom(0x39, 0x85),
    fc.constantFrom(32, 64),
    register,
    register,
    fc.nat(15),
    fc.array(instruction, { maxLength: 3 }),
  )
  .map(([opcode, bits, reg, rm, condition, skipped]) =>
    sizedCode(
      bits,
      opcode,
      0xc0 | (reg << 3) | rm,
      0x70 | condition,
      skipped.flat().length,
      skipped.flat(),
    ),
  )

const program = fc
  .array(fc.oneof({ weight: 3, arbitrary: instruction }, { weight: 1, arbitrary: branch }), {
    minLength: 1,
    maxLength: 40,
  })
  .map((parts) => parts.flat().concat(0xc3))

let target: CodeMachine

/** Instructions that are carried out before one that faults. */
function stepsToFault(): number {
  for (let steps = 0; ; steps++) {
    try {
      target.interpreter.step(target.cpu)
    } catch (error) {
      if (error instanceof PageFault) return steps
      throw error
    }
  }
}

/** Everything that code can change. */
function state(): unknown {
  const { cpu, machine } = target
  return {
    general: [...cpu.general64],
    rip: cpu.rip,
    flags: cpu.statusFlags,
    data: machine.memory.read(DATA_PHYSICAL, 0x100),
  }
}

function begin(values: readonly bigint[], code: readonly number[]): void {
  const { cpu, machine } = target
  machine.memory.clearFrame(DATA_PHYSICAL / 4096)
  machine.memory.write(CODE_PHYSICAL, Uint8Array.from(code))
  for (const [index, value] of values.entries()) {
    cpu.general64[REGISTERS[index]!] = value
    machine.memory.write64(DATA_PHYSICAL + index * 16, value)
  }
  cpu.general64[Gpr.RDI] = DATA
  cpu.rsp = STACK_TOP - 8n
  cpu.write64(cpu.rsp, RETURN)
  cpu.rflags = 0
  cpu.rip = CODE
}

const values = fc.array(word, { minLength: 6, maxLength: 6 })

describe.each([
  { blocks: 'one by one', hotAfter: Infinity },
  { blocks: 'made one function', hotAfter: 0 },
])('with the operations of blocks $blocks', ({ hotAfter }) => {
  beforeEach(() => {
    target = codeMachine({}, { hotAfter })
  })

  test('instructions in blocks do what they do one by one, and as many are counted', () => {
    const { cpu, interpreter } = target
    fc.assert(
      fc.property(program, values, (code, registers) => {
        begin(registers, code)
        let before = cpu.instructions
        let steps = 0
        while (cpu.rip !== RETURN) {
          interpreter.step(cpu)
          steps++
        }
        expect(cpu.instructions - before).toBe(steps)
        const single = state()
        begin(registers, code)
        before = cpu.instructions
        expect(interpreter.run(cpu, { until: { rip: RETURN, rsp: STACK_TOP } })).toBe('returned')
        expect(state()).toEqual(single)
        expect(cpu.instructions - before).toBe(steps)
      }),
      { numRuns: 150 },
    )
  })

  test('a run stops after any number of instructions as single steps would', () => {
    const { cpu, interpreter } = target
    fc.assert(
      fc.property(program, values, fc.nat(30), (code, registers, limit) => {
        begin(registers, code)
        for (let step = 0; step < limit && cpu.rip !== RETURN; step++) interpreter.step(cpu)
        const single = state()
        begin(registers, code)
        const until = { rip: RETURN, rsp: STACK_TOP }
        const end = interpreter.run(cpu, { until, maxInstructions: limit })
        expect(end).toBe(cpu.rip === RETURN ? 'returned' : 'instruction-limit')
        expect(state()).toEqual(single)
      }),
      { numRuns: 100 },
    )
  })

  test('a fault in the middle leaves everything as the instructions before it have it', () => {
    const { cpu, interpreter } = target
    // mov rax, [rbp + 0] of an address that is not mapped
    const fault = [0x48, 0x8b, 0x45, 0]
    fc.assert(
      fc.property(
        fc.array(instruction, { maxLength: 20 }),
        fc.array(instruction, { maxLength: 5 }),
        values,
        (before, after, registers) => {
          // mov rbp, 0x700000 clears no flags.
          const code = [
            ...before.flat(),
            0x48,
            0xc7,
            0xc5,
            0,
            0,
            0x70,
            0,
            ...fault,
            ...after.flat(),
            0xc3,
          ]
          begin(registers, code)
          const counted = cpu.instructions
          const steps = stepsToFault()
          expect(cpu.instructions - counted).toBe(steps)
          const single = state()
          begin(registers, code)
          const start = cpu.instructions
          expect(() => interpreter.run(cpu)).toThrow(PageFault)
          expect(state()).toEqual(single)
          expect(cpu.instructions - start).toBe(steps)
        },
      ),
      { numRuns: 100 },
    )
  })

  describe('a run', () => {
    test('stops before an instruction in the middle of a block', () => {
      const { cpu, interpreter } = target
      // inc eax; inc eax; cmp eax, ebx; jne +0; inc eax; ret
      begin([0n], [0xff, 0xc0, 0xff, 0xc0, 0x39, 0xd8, 0x75, 0, 0xff, 0xc0, 0xc3])
      const { rsp } = cpu
      for (const offset of [2n, 4n, 6n, 8n, 10n]) {
        expect(interpreter.run(cpu, { until: { rip: CODE + offset, rsp } })).toBe('returned')
        expect(cpu.rip).toBe(CODE + offset)
      }
      expect(cpu.general64[Gpr.RAX]).toBe(3n)
    })

    test('goes on where RIP is right and RSP is not', () => {
      const { cpu, interpreter } = target
      // again: push rax; dec ecx; jnz again; ret
      begin([0n, 3n], [0x50, 0xff, 0xc9, 0x75, 0xfb, 0xc3])
      const rsp = cpu.rsp - 16n
      expect(interpreter.run(cpu, { until: { rip: CODE, rsp } })).toBe('returned')
      expect(cpu.general64[Gpr.RCX]).toBe(1n)
    })

    test('of code that a gate calls stops by itself, and the outer one goes on', () => {
      const { cpu, machine, interpreter } = target
      const gate = machine.gates.bind({
        name: 'Again',
        image: 'Model',
        run: () => cpu.call(CODE + 0x200n) + 1n,
      })
      machine.memory.write(CODE_PHYSICAL + 0x100, gate)
      // mov eax, 5; nop; ret
      machine.memory.write(CODE_PHYSICAL + 0x200, Uint8Array.of(0xb8, 5, 0, 0, 0, 0x90, 0xc3))
      // call gate; add eax, 10; ret
      begin([], [0xe8, 0xfb, 0, 0, 0, 0x83, 0xc0, 10, 0xc3])
      const before = cpu.instructions
      const until = { rip: RETURN, rsp: STACK_TOP }
      expect(interpreter.run(cpu, { until, maxInstructions: 100 })).toBe('returned')
      expect(cpu.general64[Gpr.RAX]).toBe(16n)
      // call, gate, three of the other code, add, ret
      expect(cpu.instructions - before).toBe(7)
    })

    test('tells each instruction before it is carried out', () => {
      const { cpu, interpreter } = target
      begin([0n, 2n], [0xff, 0xc9, 0x75, 0xfc, 0xc3])
      const seen: bigint[] = []
      interpreter.execution(cpu).tracer = ({ rip, general64 }) => {
        seen.push(rip - CODE, general64[Gpr.RCX]!)
      }
      interpreter.run(cpu, { until: { rip: RETURN, rsp: STACK_TOP } })
      expect(seen).toEqual([0n, 2n, 2n, 1n, 0n, 1n, 2n, 0n, 4n, 0n])
    })
  })

  test('changes code that lies behind it in its block', () => {
    const { cpu, interpreter } = target
    // mov byte [rip + 2], 0xc3; inc eax; inc eax; ret: the second INC becomes RET.
    const code = [0xc6, 0x05, 2, 0, 0, 0, 0xc3, 0xff, 0xc0, 0xff, 0xc0, 0xc3]
    for (const run of [1, 2]) {
      begin([BigInt(run)], code)
      interpreter.run(cpu, { until: { rip: RETURN, rsp: STACK_TOP } })
      expect(cpu.general64[Gpr.RAX]).toBe(BigInt(run) + 1n)
    }
  })
})
