import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ParallelFlash, type ParallelFlashOptions, PhysicalMemory } from '../src/index.ts'

const KIBIBYTE = 1024

/** Bytes that tell where they are. */
function patterned(bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, index) => (index * 7) & 0xff)
}

const START = 0xffe0_0000

function withFlash(
  bytes: number,
  options: Partial<ParallelFlashOptions> = {},
): PhysicalMemory & { flash: ParallelFlash } {
  const memory = new PhysicalMemory()
  memory.write(START, patterned(bytes))
  const flash = new ParallelFlash(memory, { start: START, end: START + bytes, ...options })
  memory.attachDevice(flash)
  return Object.assign(memory, { flash })
}

/** A flash of 16 KiB, and what it holds. */
function flashOf(options: Partial<ParallelFlashOptions> = {}): ParallelFlash & {
  contents: () => Uint8Array
} {
  const memory = withFlash(16 * KIBIBYTE, options)
  return Object.assign(memory.flash, { contents: () => memory.read(START, 16 * KIBIBYTE) })
}

/** Programs a byte as FvbServicesRuntimeDxe does (OvmfPkg/QemuFlashFvbServicesRuntimeDxe/QemuFlash.c: QemuFlashWrite). */
function program(flash: ParallelFlash, offset: number, value: number): void {
  flash.write(offset, 1, 0x10)
  flash.write(offset, 1, value)
}

test('a new flash reads as what it holds, in pieces of any size', () => {
  const flash = flashOf()
  expect(flash.readsAsMemory).toBe(true)
  expect(flash.read(4, 1)).toBe(28)
  expect(flash.read(4, 2)).toBe(28 + 35 * 256)
  expect(flash.read(0x24, 4)).toBe(0x11_0a_03_fc)
})

test('programmed bytes are there once the flash is back in array mode, and only those', () => {
  const flash = flashOf()
  program(flash, 0x1001, 0x5a)
  program(flash, 0x1002, 0xa5)
  expect(flash.read(0x1001, 1)).toBe(0x80)
  expect(flash.readsAsMemory).toBe(false)
  flash.write(0x1002, 1, 0xff)
  expect(flash.readsAsMemory).toBe(true)
  const expected = patterned(16 * KIBIBYTE)
  expected[0x1001] = 0x5a
  expected[0x1002] = 0xa5
  expect(flash.contents()).toEqual(expected)
})

test('0x40 programs like 0x10, and a wider write programs its bytes', () => {
  const flash = flashOf()
  flash.write(0x20, 4, 0x40)
  flash.write(0x20, 4, 0xdead_beef)
  flash.write(0, 1, 0xff)
  expect(flash.read(0x20, 4)).toBe(0xdead_beef)
})

test('an erase sets one block to ones when it is confirmed, and not before', () => {
  const flash = flashOf()
  flash.write(0x1234, 1, 0x20)
  expect(flash.contents()).toEqual(patterned(16 * KIBIBYTE))
  flash.write(0x1234, 1, 0xd0)
  expect(flash.read(0, 1) & 0x80).toBe(0x80)
  flash.write(0x1234, 1, 0xff)
  expect(flash.contents()).toEqual(patterned(16 * KIBIBYTE).fill(0xff, 0x1000, 0x2000))
})

test('an erase that is not confirmed does nothing', () => {
  const flash = flashOf()
  flash.write(0, 1, 0x20)
  flash.write(0, 1, 0xff)
  expect([flash.readsAsMemory, flash.read(1, 1)]).toEqual([true, 7])
})

test('blocks may be larger than a page', () => {
  const flash = flashOf({ blockBytes: 8192 })
  flash.write(0x2fff, 1, 0x20)
  flash.write(0x2fff, 1, 0xd0)
  expect(flash.contents()).toEqual(patterned(16 * KIBIBYTE).fill(0xff, 0x2000, 0x4000))
})

test('a buffered write takes one more write than its count, and a confirmation', () => {
  const flash = flashOf()
  flash.write(0x40, 1, 0xe8)
  expect(flash.read(0x40, 1)).toBe(0x80)
  flash.write(0x40, 1, 2)
  for (const [index, value] of [1, 2, 3].entries()) flash.write(0x40 + index, 1, value)
  flash.write(0x40, 1, 0xd0)
  flash.write(0x40, 1, 0xff)
  expect(flash.read(0x40, 4)).toBe(0x03_02_01 + ((0x43 * 7) & 0xff) * 2 ** 24)
})

test('clearing the status clears all of it and goes back to the array: how OVMF tells a flash from memory', () => {
  const flash = flashOf()
  flash.write(1, 1, 0x50)
  expect(flash.read(1, 1)).toBe(7)
  flash.write(1, 1, 0x70)
  expect(flash.read(1, 1)).toBe(0)
  flash.write(1, 1, 0xff)
  expect(flash.read(1, 1)).toBe(7)
})

test('four bytes of status are those of two devices side by side', () => {
  const flash = flashOf()
  flash.write(0, 1, 0x70)
  expect([1, 2, 4].map((size) => flash.read(0, size))).toEqual([0x80, 0x80, 0x80_0080])
})

test('the query table says "QRY", the Intel command set, and the blocks', () => {
  const flash = flashOf()
  flash.write(0x55, 1, 0x98)
  const table = Array.from({ length: 0x40 }, (_, at) => flash.read(at, 1))
  expect(String.fromCharCode(...table.slice(0x10, 0x13))).toBe('QRY')
  expect(table.slice(0x13, 0x15)).toEqual([1, 0])
  expect(2 ** table[0x27]!).toBe(16 * KIBIBYTE)
  expect(table.slice(0x2d, 0x31)).toEqual([3, 0, 0x10, 0])
  flash.write(0, 1, 0x12)
  expect(flash.read(0x10, 1)).toBe(0x51)
  flash.write(0, 1, 0xff)
  expect(flash.read(0x10, 1)).toBe(0x70)
})

test('identifiers are zero, as on QEMU’s PCs, and locking a block is acknowledged', () => {
  const flash = flashOf()
  flash.write(0, 1, 0x90)
  expect([flash.read(0, 1), flash.read(1, 1)]).toEqual([0, 0])
  flash.write(0, 1, 0xff)
  flash.write(0, 1, 0x50)
  flash.write(0, 1, 0x60)
  flash.write(0, 1, 0x01)
  expect(flash.read(0, 1)).toBe(0x80)
})

test('a secure flash takes no writes where there is no system-management mode', () => {
  const flash = flashOf({ secure: true })
  program(flash, 0, 0x33)
  flash.write(0, 1, 0x70)
  expect(flash.readsAsMemory).toBe(true)
  expect(flash.contents()).toEqual(patterned(16 * KIBIBYTE))
})

test('a reset ends the command that is under way and keeps the contents', () => {
  const flash = flashOf()
  program(flash, 5, 0x77)
  flash.write(0, 1, 0x10)
  flash.reset()
  flash.write(0, 1, 0x70)
  expect(flash.read(0, 1)).toBe(0x80)
  flash.reset()
  expect(flash.read(5, 1)).toBe(0x77)
})

test('forks go their own way from any state on', () => {
  const command = fc.record({
    offset: fc.integer({ min: 0, max: 8191 }),
    value: fc.constantFrom(0x10, 0x20, 0xd0, 0xff, 0x70, 0x50, 0x98, 0xe8, 0x01, 0x5a),
  })
  const writes = fc.array(command, { maxLength: 30 })
  fc.assert(
    fc.property(writes, writes, writes, (before, left, right) => {
      const play = (memory: PhysicalMemory, list: typeof before): PhysicalMemory => {
        const flash = memory.deviceAt(START / 4096)!
        for (const { offset, value } of list) flash.write(offset, 1, value)
        return memory
      }
      const parent = play(withFlash(8192), before)
      const fork = play(parent.fork(), left)
      play(parent, right)
      for (const [forked, list] of [
        [fork, left],
        [parent, right],
      ] as const) {
        const alone = play(play(withFlash(8192), before), list)
        expect(forked.read(START, 8192)).toEqual(alone.read(START, 8192))
        const [device, expected] = [forked, alone].map((memory) => memory.deviceAt(START / 4096)!)
        expect(device!.readsAsMemory).toBe(expected!.readsAsMemory)
        expect(device!.read(0x11, 1)).toBe(expected!.read(0x11, 1))
      }
    }),
  )
})
