import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Machine, PAGE_SIZE, PhysicalMemory, phys, virt } from '../src/index.ts'
import { mappedMachine } from './mapped-machine.ts'

/** Frames near and far, in the flat window and outside, two in one region. */
const FRAMES = [0, 1, 15, 16, 511, 512, 0x1000, 2 ** 28, 2 ** 28 + 1, 2 ** 40 - 1]

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      write: fc.constantFrom(...FRAMES),
      offset: fc.nat(PAGE_SIZE - 1),
      value: fc.integer({ min: 1, max: 255 }),
      who: fc.nat(7),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      fill: fc.constantFrom(...FRAMES),
      frames: fc.integer({ min: 1, max: 20 }),
      word: fc.integer(),
      who: fc.nat(7),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      copy: fc.constantFrom(...FRAMES),
      to: fc.constantFrom(...FRAMES),
      frames: fc.integer({ min: 1, max: 3 }),
      from: fc.nat(7),
      who: fc.nat(7),
    }),
  },
  { weight: 2, arbitrary: fc.record({ fork: fc.nat(7) }) },
)

/** One memory as a plain map of bytes, and the fills under it. */
class Model {
  readonly bytes: Map<number, number>

  constructor(bytes: ReadonlyMap<number, number> = new Map()) {
    this.bytes = new Map(bytes)
  }

  fill(start: number, frames: number, word: number): void {
    for (let address = start; address < start + frames * PAGE_SIZE; address++) {
      this.bytes.set(address, (word >>> ((address % 4) * 8)) & 0xff)
    }
  }

  /** Frame after frame from the lowest on, which shows where the ranges overlap. */
  copy(from: Model, first: number, frames: number, to: number): void {
    for (let offset = 0; offset < frames * PAGE_SIZE; offset++) {
      const byte = from.bytes.get(first * PAGE_SIZE + offset) ?? 0
      this.bytes.set(to * PAGE_SIZE + offset, byte)
    }
  }
}

describe.each([
  ['sparse memory', 0],
  ['memory with a flat window', 16 * PAGE_SIZE],
])('%s', (_, flatWindow) => {
  test('what one memory writes never shows in another, whether it is a fork or has copied from it', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        // Two that are not forks of one another.
        const family = [flatWindow, 0].map((flat) => ({
          memory: new PhysicalMemory({ flatWindow: flat }),
          model: new Model(),
        }))
        for (const action of steps) {
          if ('fork' in action) {
            const parent = family[action.fork % family.length]!
            family.push({ memory: parent.memory.fork(), model: new Model(parent.model.bytes) })
            continue
          }
          const { memory, model } = family[action.who % family.length]!
          if ('write' in action) {
            const address = action.write * PAGE_SIZE + action.offset
            memory.write8(address, action.value)
            model.bytes.set(address, action.value)
          } else if ('copy' in action) {
            const { copy, to } = action
            const from = family[action.from % family.length]!
            const frames = Math.min(action.frames, 2 ** 40 - copy, 2 ** 40 - to)
            memory.copyFrames(from.memory, copy, frames, to)
            model.copy(from.model, copy, frames, to)
          } else {
            const start = action.fill * PAGE_SIZE
            const frames = Math.min(action.frames, 2 ** 40 - action.fill)
            memory.fill(start, start + frames * PAGE_SIZE, action.word)
            model.fill(start, frames, action.word)
          }
        }
        for (const { memory, model } of family) {
          for (const frame of FRAMES) {
            const expected = new Uint8Array(PAGE_SIZE)
            for (let offset = 0; offset < PAGE_SIZE; offset++) {
              expected[offset] = model.bytes.get(frame * PAGE_SIZE + offset) ?? 0
            }
            // Comparing whole arrays with toEqual takes seconds.
            const found = memory.read(frame * PAGE_SIZE, PAGE_SIZE)
            expect(Buffer.compare(found, expected), `frame ${frame}`).toBe(0)
          }
        }
      }),
      { numRuns: 100 },
    )
  })
})

test('a memory is the same as its fork until a byte of either differs, and again when it does not', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...FRAMES.slice(3)),
      fc.nat(PAGE_SIZE - 1),
      fc.integer({ min: 1, max: 255 }),
      (frame, offset, value) => {
        const memory = new PhysicalMemory()
        memory.write8(0x1000, 1)
        const fork = memory.fork()
        const address = frame * PAGE_SIZE + offset
        expect(memory.isSameAs(fork)).toBe(true)
        memory.write8(address, value)
        expect([memory.isSameAs(fork), fork.isSameAs(memory)]).toEqual([false, false])
        fork.write8(address, value)
        expect([memory.isSameAs(fork), fork.isSameAs(memory)]).toEqual([true, true])
        fork.fill(frame * PAGE_SIZE, (frame + 1) * PAGE_SIZE, 0x0101_0101)
        expect(memory.isSameAs(fork)).toBe(false)
      },
    ),
    { numRuns: 30 },
  )
})

test('bytes are copied from page to page and from the middle of one to the middle of another', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(0, 0x234, PAGE_SIZE),
      fc.constantFrom(0, 0x567, PAGE_SIZE),
      fc.integer({ min: 0, max: 3 * PAGE_SIZE }),
      (from, to, length) => {
        const memory = new PhysicalMemory()
        const bytes = Uint8Array.from({ length: 4 * PAGE_SIZE }, (_, index) => index % 251)
        memory.write(0, bytes)
        memory.copy(from, 0x40_0000 + to, length)
        memory.write(0, new Uint8Array(4 * PAGE_SIZE))
        const copied = memory.read(0x40_0000 + to, length + 1)
        const expected = Uint8Array.of(...bytes.subarray(from, from + length), 0)
        expect(Buffer.compare(copied, expected)).toBe(0)
      },
    ),
    { numRuns: 40 },
  )
})

test('copying a terabyte that nobody has written to takes no memory', () => {
  const [one, other] = [new PhysicalMemory(), new PhysicalMemory()]
  for (const memory of [one, other]) memory.fill(0, 2 ** 40, 0x5a5a_5a5a)
  one.write8(0x1234, 1)
  other.copyFrames(one, 0, 2 ** 40 / PAGE_SIZE, 0)
  expect(other.read(0x1233, 3)).toEqual(Uint8Array.of(0x5a, 1, 0x5a))
  expect(other.isWritten(2)).toBe(false)
  expect(other.isWritten(2 ** 28 - 1)).toBe(false)
})

test('a fork of a machine starts with its registers and tables, and an empty TLB', () => {
  const { machine, cpu, tables } = mappedMachine()
  tables.mapRange(virt(0x40_0000n), phys(0x20_0000), PAGE_SIZE)
  cpu.rsp = 0x40_0800n
  cpu.interruptFlag = true
  cpu.mxcsr = 0x7f80
  cpu.translate(0x40_0000n, 'read')
  const fork = machine.fork()
  expect(fork.bootCpu).toMatchObject({
    cr0: cpu.cr0,
    cr3: cpu.cr3,
    cr4: cpu.cr4,
    efer: cpu.efer,
    rsp: 0x40_0800n,
    interruptFlag: true,
    mxcsr: 0x7f80,
  })
  expect(fork.bootCpu.tlb.size).toBe(0)
  expect(fork.bootCpu.translate(0x40_0123n, 'read')).toBe(0x20_0123)
})

test('machines that were forked apart do not see each other’s writes, events, ports or owners', () => {
  const parent = new Machine()
  parent.memory.owners.set(0, 16, { kind: 'kernel', name: 'kernel' })
  const [left, right] = [parent.fork(), parent.fork()]
  left.memory.write32(0x1000, 1)
  right.memory.write32(0x1000, 2)
  left.log.emit({ kind: 'phase', name: 'left' })
  left.ports.out8(0x70, 0x0a)
  left.ports.out8(0x71, 0x55)
  left.memory.owners.set(4, 5, { kind: 'firmware', name: 'image' })
  expect([parent, left, right].map((machine) => machine.memory.read32(0x1000))).toEqual([0, 1, 2])
  expect([parent, left, right].map((machine) => machine.log.events.length)).toEqual([0, 1, 0])
  right.ports.out8(0x70, 0x0a)
  expect(right.ports.in8(0x71)).toBe(0x26)
  expect([parent, left, right].map((machine) => machine.memory.owners.get(4)?.name)).toEqual([
    'kernel',
    'image',
    'kernel',
  ])
})

test('what was in the flat window still counts as written after a fork', () => {
  const memory = new PhysicalMemory({ flatWindow: 16 * PAGE_SIZE })
  memory.write8(3 * PAGE_SIZE, 1)
  const fork = memory.fork()
  expect([memory.isWritten(3), fork.isWritten(3), fork.isWritten(16)]).toEqual([true, true, false])
  fork.fill(0, 16 * PAGE_SIZE, 0)
  expect([memory.isWritten(3), fork.isWritten(3)]).toEqual([true, false])
})
