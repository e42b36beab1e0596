import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  CpuException,
  Cr4,
  type Machine,
  PAGE_SIZE,
  type PageTableBuilder,
  phys,
  virt,
} from '../src/index.ts'
import { mappedMachine } from './mapped-machine.ts'

/** Linear pages that the steps use, some of which share an entry of each level, and a slot of the TLB. */
const PAGES = [0x40_0000n, 0x40_1000n, 0x50_0000n, 0x4000_0000n, 0xffff_8000_0000_0000n]
/** Frames that they are mapped to. */
const FRAMES = [0x200, 0x201, 0x300, 0x401]

const page = fc.constantFrom(...PAGES)
const frame = fc.constantFrom(...FRAMES)
const cpu = fc.nat(1)

type Doing = (machine: Machine, tables: PageTableBuilder) => unknown

/** What somebody does to a machine; what it returns or throws is what they see. */
const step: fc.Arbitrary<Doing> = fc.oneof(
  fc.tuple(page, frame, fc.boolean()).map(([address, to, global]): Doing => (_, tables) => {
    tables.mapRange(virt(address), phys(to * PAGE_SIZE), PAGE_SIZE, { global, replace: true })
  }),
  page.map((address): Doing => (_, tables) => {
    tables.unmapRange(virt(address), PAGE_SIZE)
  }),
  fc.tuple(cpu, page).map(
    ([at, address]): Doing =>
      ({ cpus }) =>
        cpus[at]!.read64(address + 8n),
  ),
  fc.tuple(cpu, page, fc.bigInt(0n, 0xffn)).map(([at, address, value]): Doing => ({ cpus }) => {
    cpus[at]!.write64(address + 8n, value)
  }),
  cpu.map((at): Doing => ({ cpus }) => {
    cpus[at]!.writeCr3(cpus[at]!.cr3)
  }),
  cpu.map((at): Doing => ({ cpus }) => {
    cpus[at]!.writeCr4(cpus[at]!.cr4 ^ Cr4.PGE)
  }),
  fc.tuple(cpu, page).map(([at, address]): Doing => ({ cpus }) => {
    cpus[at]!.invlpg(address)
  }),
  fc.tuple(cpu, fc.nat(0xff)).map(([at, value]): Doing => ({ cpus }) => {
    cpus[at]!.out8(0x70, 0x32)
    cpus[at]!.out8(0x71, value)
  }),
  cpu.map(
    (at): Doing =>
      ({ cpus }) =>
        cpus[at]!.in8(0x71),
  ),
  fc.tuple(frame, fc.integer()).map(([at, word]): Doing => ({ memory }) => {
    memory.fill(at * PAGE_SIZE, (at + 1) * PAGE_SIZE, word)
  }),
  fc.constant<Doing>((_, tables) => {
    for (const obligation of tables.outstanding) obligation.ignore('a test')
  }),
  cpu.map((at): Doing => ({ cpus }) => {
    const own = cpus[at]!
    own.interruptFlag = !own.interruptFlag
    own.rsp += 8n
    own.mxcsr ^= 0x40
  }),
)

/** Does steps, and tells everything that can be seen of the machine between them. */
function played(steps: readonly Doing[], machine: Machine, tables: PageTableBuilder): unknown[] {
  return steps.map((doing) => {
    let seen: unknown
    try {
      seen = doing(machine, tables)
    } catch (error) {
      if (!(error instanceof CpuException)) throw error
      seen = error.message
    }
    const cpus = machine.cpus.map(({ cr3, cr4, rsp, interruptFlag, mxcsr, counters, tlb }) => ({
      registers: [cr3, cr4, rsp, interruptFlag, mxcsr],
      counters: { ...counters },
      held: [...tlb.held()],
    }))
    const owed = tables.outstanding.map(({ ranges }) => ranges)
    return { seen, cpus, owed, events: machine.log.events.length, last: machine.log.events.at(-1) }
  })
}

function twoCpus(): { machine: Machine; tables: PageTableBuilder } {
  const { machine, tables } = mappedMachine({ cpus: 2 })
  machine.memory.owners.set(0x200, 0x500, { kind: 'kernel', name: 'the test' })
  return { machine, tables }
}

describe('a machine that was rewound', () => {
  test('goes on from there as it did the first time, whatever happened in between', () => {
    const steps = fc.array(step, { maxLength: 30 })
    fc.assert(
      fc.property(steps, steps, steps, (before, between, after) => {
        const { machine, tables } = twoCpus()
        played(before, machine, tables)
        const rewinds = [machine.checkpoint(), tables.checkpoint()]
        const first = played(after, machine, tables)
        for (const rewind of rewinds) rewind()
        played(between, machine, tables)
        for (const rewind of rewinds) rewind()
        expect(played(after, machine, tables)).toEqual(first)
      }),
      { numRuns: 150 },
    )
  })

  test('goes back to earlier and later moments in any order', () => {
    const { machine, tables } = twoCpus()
    const [page0 = 0n] = PAGES
    tables.mapRange(virt(page0), phys(0x20_0000), PAGE_SIZE)
    const moments = [1n, 2n, 3n].map((value) => {
      machine.bootCpu.write64(page0, value)
      machine.log.era = `after ${value}`
      return { value, rewind: machine.checkpoint() }
    })
    for (const { value, rewind } of [...moments, ...moments.toReversed()]) {
      rewind()
      expect(machine.bootCpu.read64(page0)).toBe(value)
      expect(machine.log.era).toBe(`after ${value}`)
      machine.bootCpu.write64(page0, 9n)
    }
  })

  test('gives the floating-point state back, as often as one goes back to it', () => {
    const { machine } = twoCpus()
    const { bootCpu } = machine
    bootCpu.floatingPoint.controlWord = 0x37f
    bootCpu.floatingPoint.xmm[40] = 7
    const rewind = machine.checkpoint()
    for (let time = 0; time < 2; time++) {
      bootCpu.floatingPoint.controlWord = 0x40
      bootCpu.floatingPoint.xmm[40] = 8
      rewind()
      expect(bootCpu.floatingPoint).toMatchObject({ controlWord: 0x37f })
      expect(bootCpu.floatingPoint.xmm[40]).toBe(7)
    }
    bootCpu.reset()
    rewind()
    expect(bootCpu.floatingPoint.controlWord).toBe(0x37f)
  })

  test('gives frames back to whom they belonged', () => {
    const { machine } = twoCpus()
    const rewind = machine.checkpoint()
    machine.memory.owners.set(0x200, 0x500, undefined)
    rewind()
    expect(machine.memory.owners.get(0x300)?.name).toBe('the test')
  })
})
