import { Gpr, PageFault, type PortDevice, SKYLAKE_SP, virt, ZEN4 } from '@trapdoor/core'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import {
  CODE,
  CODE_PHYSICAL,
  type CodeMachine,
  codeMachine,
  DATA,
  DATA_PHYSICAL,
  execute,
} from './code-machine.ts'
import { FLAGS } from './whole-numbers.ts'

const DF = 0x400
const PAGES = 16 * 4096

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
  const bytes = Uint8Array.from({ length: PAGES }, (_, index) => (index * 7 + (index >> 8)) & 0xff)
  target.machine.memory.write(DATA_PHYSICAL, bytes)
})

const contents = (): Uint8Array => target.machine.memory.read(DATA_PHYSICAL, PAGES)

/** Code for a size of 1, 2, 4 or 8 bytes: prefixes, then the opcode for bytes or the one behind. */
function sized(size: number, opcode: number, ...prefixes: readonly number[]): number[] {
  const rest = size === 1 ? [opcode] : [opcode + 1]
  const own = size === 2 ? [0x66] : size === 8 ? [0x48] : []
  return [...(size === 2 ? own : []), ...prefixes, ...(size === 8 ? own : []), ...rest]
}

/** Runs code to the end of its one instruction. */
function runAll(
  code: readonly number[],
  registers: Partial<Record<keyof typeof Gpr, bigint>>,
): void {
  const { cpu, interpreter, machine } = target
  for (const [name, value] of Object.entries(registers)) {
    cpu.general64[Gpr[name as keyof typeof Gpr]] = value
  }
  machine.memory.write(0x20_0000, Uint8Array.from(code))
  cpu.rip = CODE
  const { rsp } = cpu
  interpreter.run(cpu, { until: { rip: CODE + BigInt(code.length), rsp } })
}

const size = fc.constantFrom(1, 2, 4, 8)
const place = fc.integer({ min: 0x2000, max: PAGES - 0x6000 })

test('REP MOVS is so many MOVS, whatever lies where', () => {
  const { cpu } = target
  fc.assert(
    fc.property(
      size,
      place,
      fc.oneof(place, fc.integer({ min: -40, max: 40 })),
      fc.nat(900),
      fc.boolean(),
      (bytes, from, to, count, isDown) => {
        // Some overlap by a few bytes.
        const destination = to < 0x1000 ? from + to : to
        const expected = contents()
        const step = isDown ? -bytes : bytes
        for (let index = 0; index < count; index++) {
          const element = expected.slice(from + index * step, from + index * step + bytes)
          expected.set(element, destination + index * step)
        }
        cpu.controlFlags = isDown ? DF : 0
        const before = cpu.instructions
        runAll(sized(bytes, 0xa4, 0xf3), {
          RSI: DATA + BigInt(from),
          RDI: DATA + BigInt(destination),
          RCX: BigInt(count),
        })
        expect(contents()).toEqual(expected)
        expect(cpu.general64[Gpr.RCX]).toBe(0n)
        expect(cpu.general64[Gpr.RSI]).toBe(DATA + BigInt(from + count * step))
        expect(cpu.general64[Gpr.RDI]).toBe(DATA + BigInt(destination + count * step))
        // The last look at RCX counts, too.
        expect(cpu.instructions - before).toBe(count + 1)
      },
    ),
    { numRuns: 60 },
  )
})

test('REP STOS is so many STOS', () => {
  const { cpu } = target
  const value = 0x1122_3344_5566_7788n
  fc.assert(
    fc.property(size, place, fc.nat(1000), fc.boolean(), (bytes, to, count, isDown) => {
      const expected = contents()
      const step = isDown ? -bytes : bytes
      const view = new DataView(new ArrayBuffer(8))
      view.setBigUint64(0, value, true)
      const element = new Uint8Array(view.buffer, 0, bytes)
      for (let index = 0; index < count; index++) expected.set(element, to + index * step)
      cpu.controlFlags = isDown ? DF : 0
      runAll(sized(bytes, 0xaa, 0xf3), { RAX: value, RDI: DATA + BigInt(to), RCX: BigInt(count) })
      expect(contents()).toEqual(expected)
      expect(cpu.general64[Gpr.RDI]).toBe(DATA + BigInt(to + count * step))
    }),
    { numRuns: 60 },
  )
})

test('LODS loads into the accumulator as far as its size goes', () => {
  const { cpu, machine } = target
  machine.memory.write64(DATA_PHYSICAL, 0x8877_6655_4433_2211n)
  for (const [bytes, expected] of [
    [1, 0x5555_5555_5555_5511n],
    [2, 0x5555_5555_5555_2211n],
    [4, 0x4433_2211n],
    [8, 0x8877_6655_4433_2211n],
  ] as const) {
    runAll(sized(bytes, 0xac), { RSI: DATA, RAX: 0x5555_5555_5555_5555n })
    expect(cpu.general64[Gpr.RAX]).toBe(expected)
    expect(cpu.general64[Gpr.RSI]).toBe(DATA + BigInt(bytes))
  }
  runAll([0xf3, 0xac], { RSI: DATA, RCX: 3n, RAX: 0n })
  expect(cpu.general64[Gpr.RAX]).toBe(0x33n)
})

describe('REPE and REPNE', () => {
  test('CMPS ends with the first element that differs, or is the same', () => {
    const { cpu, machine } = target
    fc.assert(
      fc.property(
        size,
        fc.integer({ min: 1, max: 400 }),
        fc.nat(400),
        fc.boolean(),
        (bytes, count, odd, isEqual) => {
          const [a, b] = [0x1000 - 3, 0x4000 + 5]
          for (let index = 0; index < count * bytes; index++) {
            const isOdd = Math.floor(index / bytes) === odd
            machine.memory.write8(DATA_PHYSICAL + a + index, index & 0x7f)
            machine.memory.write8(
              DATA_PHYSICAL + b + index,
              isOdd === isEqual ? 0xff : index & 0x7f,
            )
          }
          const before = cpu.instructions
          runAll(sized(bytes, 0xa6, isEqual ? 0xf3 : 0xf2), {
            RSI: DATA + BigInt(a),
            RDI: DATA + BigInt(b),
            RCX: BigInt(count),
          })
          const found = odd < count
          const done = found ? odd + 1 : count
          expect(cpu.general64[Gpr.RCX]).toBe(BigInt(count - done))
          expect(cpu.general64[Gpr.RSI]).toBe(DATA + BigInt(a + done * bytes))
          expect(cpu.statusFlags & FLAGS.ZF).toBe(found === isEqual ? 0 : FLAGS.ZF)
          // When the comparison ends it, RCX is not looked at again.
          expect(cpu.instructions - before).toBe(found ? done : done + 1)
        },
      ),
      { numRuns: 60 },
    )
  })

  test('SCAS looks for the accumulator', () => {
    const { cpu, machine } = target
    machine.memory.write(DATA_PHYSICAL + 0xff0, new Uint8Array(100).fill(1))
    machine.memory.write8(DATA_PHYSICAL + 0x1010, 9)
    // repne scasb
    runAll([0xf2, 0xae], { RAX: 0xff09n, RDI: DATA + 0xff0n, RCX: 0xffff_ffff_ffffn })
    expect(cpu.general64[Gpr.RDI]).toBe(DATA + 0x1011n)
    expect(cpu.statusFlags & FLAGS.ZF).toBe(FLAGS.ZF)
    expect(cpu.general64[Gpr.RCX]).toBe(0xffff_ffff_ffffn - 0x21n)
    // repe scasw
    runAll([0x66, 0xf3, 0xaf], { RAX: 0x101n, RDI: DATA + 0xff0n, RCX: 100n })
    expect(cpu.general64[Gpr.RDI]).toBe(DATA + 0x1012n)
    expect(cpu.statusFlags & FLAGS.ZF).toBe(0)
  })

  test('of a count of 0 change nothing, flags neither', () => {
    const { cpu } = target
    cpu.rflags = FLAGS.CF | FLAGS.SF
    const before = cpu.instructions
    runAll([0xf3, 0xa6], { RSI: 0n, RDI: 0n, RCX: 0n })
    expect(cpu.statusFlags).toBe(FLAGS.CF | FLAGS.SF)
    expect(cpu.instructions - before).toBe(1)
  })
})

describe('a fault in a repetition', () => {
  test.each([1, 2, 4, 8])(
    'leaves registers as after the last element of %i bytes, and goes on from there',
    (bytes) => {
      const { cpu, interpreter, tables } = target
      // The third page cannot be written to.
      const wall = DATA + 0x3000n
      tables.changeRange(virt(wall), 4096, (low, high) => [low & ~2, high])
      const start = DATA + 0x1004n - BigInt(bytes)
      const all = 0x3000 / bytes
      const before = cpu.instructions
      const code = sized(bytes, 0xaa, 0xf3)
      expect(() =>
        runAll(code, { RAX: 0x5a5a_5a5a_5a5a_5a5an, RDI: start, RCX: BigInt(all) }),
      ).toThrow(PageFault)
      const done = Number(cpu.general64[Gpr.RDI]! - start) / bytes
      expect(cpu.general64[Gpr.RDI]! + BigInt(bytes)).toBeGreaterThan(wall)
      expect(cpu.general64[Gpr.RDI]).toBeLessThanOrEqual(wall)
      expect(cpu.general64[Gpr.RCX]).toBe(BigInt(all - done))
      expect(cpu.rip).toBe(CODE)
      expect(cpu.instructions - before).toBe(done)
      tables.changeRange(virt(wall), 4096, (low, high) => [low | 2, high])
      cpu.invlpg(wall)
      const { rsp } = cpu
      interpreter.run(cpu, { until: { rip: CODE + BigInt(code.length), rsp } })
      expect(cpu.general64[Gpr.RCX]).toBe(0n)
      expect(cpu.general64[Gpr.RDI]).toBe(start + 0x3000n)
    },
  )

  test.each([
    ['as they were', SKYLAKE_SP, false],
    ['of the last comparison', ZEN4, true],
  ])('of comparisons leaves flags %s, by %o', (_, features, areNew) => {
    const { machine, cpu, interpreter } = codeMachine({ features })
    const start = DATA + 16n * 0x1000n - 2n
    cpu.general64[Gpr.RSI] = DATA
    cpu.general64[Gpr.RDI] = start
    cpu.general64[Gpr.RCX] = 9n
    // REPE CMPSB of zeros
    machine.memory.write(CODE_PHYSICAL, Uint8Array.of(0xf3, 0xa6))
    cpu.rip = CODE
    cpu.statusFlags = 1
    expect(() => interpreter.run(cpu)).toThrow(PageFault)
    expect(cpu.general64[Gpr.RDI]).toBe(start + 2n)
    expect(cpu.statusFlags).toBe(areNew ? 0x44 : 1)
  })

  test('of MOVS is that of the load where both fault', () => {
    expect(() => runAll([0xf3, 0xa4], { RSI: 0x90_0000n, RDI: 0x91_0000n, RCX: 64n })).toThrow(
      expect.objectContaining({ access: 'read', address: 0x90_0000n }),
    )
  })
})

test('with 32-bit addresses the upper halves go, and with FS the source has its base', () => {
  const { cpu } = target
  // a32 rep movsb
  runAll([0x67, 0xf3, 0xa4], {
    RSI: 0xf_0000_0000n + DATA,
    RDI: 0xf_0000_0000n + DATA + 0x100n,
    RCX: 0xf_0000_0020n,
  })
  expect(cpu.general64[Gpr.RCX]).toBe(0n)
  expect(cpu.general64[Gpr.RSI]).toBe(DATA + 0x20n)
  expect(contents().slice(0x100, 0x120)).toEqual(contents().slice(0, 0x20))
  cpu.loadSegment(4, { ...cpu.segments[4]!, base: DATA })
  // rep movs byte [rdi], fs:[rsi]
  runAll([0x64, 0xf3, 0xa4], { RSI: 0x10n, RDI: DATA + 0x200n, RCX: 0x20n })
  expect(contents().slice(0x200, 0x220)).toEqual(contents().slice(0x10, 0x30))
})

test('a run that may not go on stops in the middle of a repetition', () => {
  const { cpu, interpreter } = target
  cpu.general64[Gpr.RDI] = DATA
  cpu.general64[Gpr.RCX] = 10_000n
  target.machine.memory.write(0x20_0000, Uint8Array.of(0xf3, 0xaa))
  cpu.rip = CODE
  expect(interpreter.run(cpu, { maxInstructions: 1000 })).toBe('instruction-limit')
  expect(cpu.general64[Gpr.RCX]).toBe(9000n)
  expect(cpu.general64[Gpr.RDI]).toBe(DATA + 1000n)
  expect(cpu.rip).toBe(CODE)
})

describe('ports', () => {
  class Counter implements PortDevice {
    readonly name = 'counter'
    readonly ports = [0x100, 0x101, 0x102, 0x103]
    readonly seen: string[] = []
    in8(port: number): number {
      this.seen.push(`in ${port.toString(16)}`)
      return port & 0xff
    }
    out8(port: number, value: number): void {
      this.seen.push(`out ${port.toString(16)} ${value.toString(16)}`)
    }
    fork(): Counter {
      return this
    }
  }
  let device: Counter

  beforeEach(() => {
    device = new Counter()
    target.machine.ports.attach(device)
    target.cpu.general64[Gpr.RDX] = 0x100n
  })

  test('IN and OUT move 8, 16 and 32 bits', () => {
    const { cpu } = target
    cpu.general64[Gpr.RAX] = 0x5555_5555_5555_5555n
    execute(target, 0xec)
    expect(cpu.general64[Gpr.RAX]).toBe(0x5555_5555_5555_5500n)
    execute(target, 0x66, 0xed)
    expect(cpu.general64[Gpr.RAX]).toBe(0x5555_5555_5555_0100n)
    execute(target, 0xed)
    expect(cpu.general64[Gpr.RAX]).toBe(0x0302_0100n)
    device.seen.length = 0
    cpu.general64[Gpr.RAX] = 0x1122_3344n
    execute(target, 0xee)
    execute(target, 0x66, 0xef)
    execute(target, 0xef)
    expect(device.seen).toEqual([
      'out 100 44',
      'out 100 44',
      'out 101 33',
      'out 100 44',
      'out 101 33',
      'out 102 22',
      'out 103 11',
    ])
    // in al, 0x71; out 0x70, al: nobody answers, or the clock does.
    execute(target, 0xe6, 0x70)
    execute(target, 0xe4, 0x80)
    expect(cpu.general64[Gpr.RAX]! & 0xffn).toBe(0xffn)
  })

  test('INS and OUTS move strings of them', () => {
    const { cpu, machine } = target
    // rep insw
    runAll([0x66, 0xf3, 0x6d], { RDX: 0x100n, RDI: DATA + 4n, RCX: 3n })
    expect(contents().slice(4, 10)).toEqual(Uint8Array.of(0, 1, 0, 1, 0, 1))
    expect(cpu.general64[Gpr.RDI]).toBe(DATA + 10n)
    device.seen.length = 0
    machine.memory.write(DATA_PHYSICAL, Uint8Array.of(0x11, 0x22, 0x33))
    // rep outsb
    runAll([0xf3, 0x6e], { RSI: DATA, RCX: 3n })
    expect(device.seen).toEqual(['out 100 11', 'out 100 22', 'out 100 33'])
    device.seen.length = 0
    cpu.general64[Gpr.RDI] = 0x90_0000n
    // insb, to where nothing is: the port is not read.
    expect(() => execute(target, 0x6c)).toThrow(expect.objectContaining({ access: 'write' }))
    expect(device.seen).toEqual([])
  })

  test('are the supervisor’s, unless IOPL or the TSS gives them to all', () => {
    const { cpu, tables, machine } = target
    tables.changeRange(virt(CODE), 4096, (low, high) => [low | 4, high])
    cpu.writeCr3(cpu.cr3)
    cpu.cpl = 3
    cpu.taskRegister = { selector: 0x40, base: DATA, limit: 0x67 + 0x30 }
    expect(() => execute(target, 0xec)).toThrow(expect.objectContaining({ mnemonic: '#GP' }))
    // The map begins at offset 0x68, and allows ports 0x100 to 0x102.
    machine.memory.write16(DATA_PHYSICAL + 0x66, 0x68)
    machine.memory.write8(DATA_PHYSICAL + 0x68 + 0x20, 0xf8)
    machine.memory.write8(DATA_PHYSICAL + 0x68 + 0x21, 0xff)
    execute(target, 0xec)
    execute(target, 0x66, 0xed)
    expect(() => execute(target, 0xed)).toThrow(expect.objectContaining({ mnemonic: '#GP' }))
    cpu.controlFlags = 0x3000
    execute(target, 0xed)
  })
})
