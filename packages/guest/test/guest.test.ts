import { type Assembler, Register } from '@trapdoor/assembler'
import { Cr0, type CpuFeatures, Segment, SKYLAKE_SP } from '@trapdoor/core'
import { describe, expect, test } from 'vitest'
import {
  DEFAULT_MEMORY_BYTES,
  MULTIBOOT_BOOTLOADER_MAGIC,
  readMultibootImage,
  runGuest,
} from '../src/index.ts'
import { elfFile, multibootHeader } from './elf-file.ts'
import { exitWithAl, flatImage, loaded, LOAD_ADDRESS, say } from './flat-guest.ts'

const FOREVER = 1e6

function running(
  emit: (code: Assembler) => void,
  features?: CpuFeatures,
): ReturnType<typeof loaded> {
  return loaded(flatImage(emit), features === undefined ? {} : { features })
}

describe('a guest', () => {
  test('starts as the specification says: 32-bit protected mode, flat segments, paging and interrupts off', () => {
    const { cpu } = running(() => {})
    expect(cpu.rip).toBe(BigInt(LOAD_ADDRESS + 32))
    expect(cpu.general64[0]).toBe(BigInt(MULTIBOOT_BOOTLOADER_MAGIC))
    expect([cpu.cr0 & (Cr0.PE | Cr0.PG), cpu.interruptFlag]).toEqual([Cr0.PE, false])
    expect(cpu.segments[Segment.CS]).toMatchObject({
      base: 0n,
      limit: 0xffff_ffff,
      rights: 0xc0_9b00,
    })
    expect(cpu.segments[Segment.SS]).toMatchObject({
      base: 0n,
      limit: 0xffff_ffff,
      rights: 0xc0_9300,
    })
  })

  test('finds its command line, its memory and its modules by EBX', () => {
    const { cpu, machine } = loaded(
      flatImage(() => {}),
      {
        append: 'one two',
        modules: [{ bytes: new TextEncoder().encode('KEY=value'), commandLine: 'environment' }],
      },
    )
    const { memory } = machine
    const information = Number(cpu.general64[3])
    const text = (address: number, length: number): string =>
      new TextDecoder().decode(memory.read(address, length))
    expect(text(memory.read32(information + 16), 14)).toBe('guest one two\0')
    expect(memory.read32(information + 8)).toBe(15 * 1024)
    const modules = memory.read32(information + 24)
    expect([memory.read32(information + 20), text(memory.read32(modules), 9)]).toEqual([
      1,
      'KEY=value',
    ])
    expect(memory.read32(modules) % 4096).toBe(0)
  })

  test('says something and exits', () => {
    const guest = running((code) => {
      say(code, 'hello\n')
      code.moveImmediate(32, Register.A, 0)
      exitWithAl(code)
    })
    expect(runGuest(guest, FOREVER)).toEqual({ kind: 'exit', value: 0 })
    expect(guest.text()).toBe('hello\n')
  })

  test('exits with 8, 16 or 32 bits', () => {
    for (const [prefix, value] of [
      [[0xee], 0x78],
      [[0x66, 0xef], 0x5678],
      [[0xef], 0x1234_5678],
    ] as const) {
      const guest = running((code) => {
        code.moveImmediate(32, Register.A, 0x1234_5678)
        code.moveImmediate(32, Register.D, 0xf4)
        code.raw(...prefix)
      })
      expect(runGuest(guest, FOREVER)).toEqual({ kind: 'exit', value })
    }
  })

  test('goes on where the limit of instructions stopped it', () => {
    const guest = running((code) => {
      for (let count = 0; count < 10; count++) code.add(32, Register.A, 1)
      code.moveImmediate(32, Register.A, 7)
      exitWithAl(code)
    })
    expect(runGuest(guest, 4)).toEqual({ kind: 'instruction-limit' })
    expect(guest.cpu.instructions).toBe(4)
    expect(runGuest(guest, FOREVER)).toEqual({ kind: 'exit', value: 7 })
  })

  test('that halts hangs, as nothing wakes it', () => {
    const off = running((code) => code.hlt())
    expect(runGuest(off, FOREVER)).toEqual({
      kind: 'hang',
      rip: BigInt(LOAD_ADDRESS + 33),
      interrupts: 'off',
    })
    const on = running((code) => {
      code.raw(0xfb)
      code.hlt()
    })
    expect(runGuest(on, FOREVER)).toMatchObject({ kind: 'hang', interrupts: 'on' })
  })

  test('that faults without an IDT ends in a triple fault, with all that went wrong', () => {
    const guest = running((code) => {
      code.raw(0x0f, 0x0b)
    })
    // The IDTR of RESET has 64 KiB from address 0, where nothing is.
    const outcome = runGuest(guest, FOREVER)
    expect(outcome).toMatchObject({ kind: 'triple-fault', rip: BigInt(LOAD_ADDRESS + 32) })
    expect(
      outcome.kind === 'triple-fault' && outcome.fault.failures.map(({ mnemonic }) => mnemonic),
    ).toEqual(['#GP', '#GP', '#GP'])
  })

  test('resets the machine', () => {
    const guest = running((code) => {
      code.moveImmediate(32, Register.D, 0xcf9)
      code.moveImmediate(32, Register.A, 6)
      code.raw(0xee)
    })
    expect(runGuest(guest, FOREVER)).toEqual({ kind: 'reset', type: 'warm' })
  })

  test('reads ones where there is no memory, and zeros where there is', () => {
    const guest = running((code) => {
      code.moveImmediate(32, Register.B, 0x100_0000)
      code.store(32, Register.B, 0, Register.B)
      code.load(32, Register.C, Register.B)
      code.moveImmediate(32, Register.B, 0x80_0000)
      code.load(32, Register.D, Register.B)
      code.hlt()
    })
    runGuest(guest, FOREVER)
    expect([guest.cpu.general64[1], guest.cpu.general64[2]]).toEqual([0xffff_ffffn, 0n])
  })

  test('asks the firmware configuration for its memory and its CPUs', () => {
    const guest = running((code) => {
      for (const [key, register] of [
        [3, Register.SI],
        [5, Register.DI],
      ] as const) {
        code.moveImmediate(32, Register.D, 0x510)
        code.moveImmediate(32, Register.A, key)
        code.raw(0x66, 0xef)
        code.moveImmediate(32, Register.D, 0x511)
        code.xorRegister(32, register, register)
        for (let byte = 0; byte < 4; byte++) {
          // IN AL, DX; MOVZX EAX, AL
          code.raw(0xec, 0x0f, 0xb6, 0xc0)
          code.shiftLeft(32, Register.A, byte * 8)
          code.orRegister(32, register, Register.A)
        }
      }
      code.hlt()
    })
    runGuest(guest, FOREVER)
    expect([guest.cpu.general64[6], guest.cpu.general64[7]]).toEqual([16n * 2n ** 20n, 1n])
  })

  test('has a test device in ports and in memory', () => {
    const guest = running((code) => {
      code.moveImmediate(32, Register.A, 0x1234_5678)
      code.moveImmediate(32, Register.D, 0xe0)
      code.raw(0xef)
      code.moveImmediate(32, Register.D, 0xe9)
      code.raw(0xec)
      code.moveImmediate(32, Register.B, 0xff00_0010)
      code.store(32, Register.B, 0, Register.B)
      code.load(32, Register.C, Register.B)
      code.hlt()
    })
    runGuest(guest, FOREVER)
    expect([guest.cpu.general64[0], guest.cpu.general64[1]]).toEqual([0x1234_5656n, 0xff00_0010n])
  })
})

describe('a guest that does not fit', () => {
  test.each([
    ['into its memory', 0x100_0000],
    ['below video memory', 0x9_fff0],
  ])('%s is refused', (_, physical) => {
    const segment = {
      virtual: BigInt(physical),
      physical: BigInt(physical),
      bytes: multibootHeader(0),
    }
    const file = elfFile({
      bits: 32,
      entry: BigInt(physical),
      segments: [{ ...segment, memorySize: 0x1000 }],
    })
    expect(() => loaded(file)).toThrow(expect.objectContaining({ code: 'GUEST_NO_ROOM' }))
  })

  test('with its modules is refused, too', () => {
    const modules = [{ bytes: new Uint8Array(15 * 2 ** 20), commandLine: '' }]
    expect(() =>
      loaded(
        flatImage(() => {}),
        { modules },
      ),
    ).toThrow(expect.objectContaining({ code: 'GUEST_NO_ROOM' }))
  })
})

test('memory above 3 GiB lies from 4 GiB on', () => {
  const { machine } = loaded(
    flatImage(() => {}),
    { memoryBytes: 4 * 2 ** 30, features: SKYLAKE_SP },
  )
  const { memory } = machine
  expect([0xc000_0000, 2 ** 32, 2 ** 32 + 2 ** 30].map((at) => memory.readByCpu(at, 4))).toEqual([
    0xffff_ffff, 0, 0xffff_ffff,
  ])
  expect(DEFAULT_MEMORY_BYTES % 2 ** 20).toBe(0)
})

test('an image of ELF is loaded to its physical addresses', () => {
  const segment = { virtual: 0xc000_0000n, physical: 0x20_0000n, bytes: multibootHeader(0) }
  const file = elfFile({ bits: 64, entry: 0xc000_0000n, segments: [segment] })
  const { cpu, machine } = loaded(file)
  expect([cpu.rip, machine.memory.read32(0x20_0000)]).toEqual([0x20_0000n, 0x1bad_b002])
  expect(readMultibootImage(file, 'guest').entry).toBe(0x20_0000)
})
