import {
  Cr0,
  type Cpu,
  type CpuFeatures,
  Efer,
  LocalApic,
  Machine,
  PageTableBuilder,
  phys,
  Segment,
  type SegmentNumber,
  SegmentRights,
  virt,
  ZEN3,
} from '@trapdoor/core'
import { EventDelivery, Interpreter } from '../../src/index.ts'

export const CODE = 0x1_0000
export const DATA = 0x2_0000
export const STACK_TOP = 0x3_0000
const GDT = 0x1000
const IDT = 0x2000
/** Where the handler of vector n stands: 16 bytes for each. */
export const HANDLERS = 0x4_0000

/** A CPU with an IDT whose handlers are HLT, so that a run stops in the one that was entered. */
export interface Computer {
  readonly machine: Machine
  readonly cpu: Cpu
  readonly events: EventDelivery
  readonly apic: LocalApic
  /** Puts code there, and RIP on it. */
  readonly place: (...bytes: readonly number[]) => void
  /** Code of the handler of a vector. */
  readonly handle: (vector: number, ...bytes: readonly number[]) => void
  /** Runs until it halts or the limit; returns the vector whose handler it halted in, or undefined. */
  readonly run: (maxInstructions?: number) => number | undefined
}

const FLAT: number =
  SegmentRights.Granularity |
  SegmentRights.Default32 |
  SegmentRights.Present |
  SegmentRights.CodeOrData |
  SegmentRights.ReadableOrWritable |
  SegmentRights.Accessed

/** Memory below 2 MiB mapped to itself for everybody, flat segments 08h (code) and 10h (data), level 0, in 64-bit mode or in protected mode. */
export function computer(mode: '64-bit' | 'protected', features: CpuFeatures = ZEN3): Computer {
  const isLong = mode === '64-bit'
  const machine = new Machine({ features, start: isLong ? 'long-mode' : 'reset' })
  const interpreter = new Interpreter()
  machine.executor = interpreter
  const cpu = machine.bootCpu
  const { memory } = machine
  if (isLong) {
    let next = 0x101
    const tables = new PageTableBuilder(memory, phys(0x10_0000), () => next++)
    tables.mapRange(virt(0), phys(0), 0x20_0000, { user: true, executable: true })
    cpu.writeCr3(tables.root)
    cpu.writeEfer(cpu.efer | Efer.SCE)
  } else {
    cpu.writeCr0(Cr0.PE)
  }
  memory.write64(GDT + 8, isLong ? 0x00af_9b00_0000_ffffn : 0x00cf_9b00_0000_ffffn)
  memory.write64(GDT + 16, 0x00cf_9300_0000_ffffn)
  cpu.gdtr = { base: BigInt(GDT), limit: 0x7f }
  cpu.idtr = { base: BigInt(IDT), limit: 256 * (isLong ? 16 : 8) - 1 }
  for (let vector = 0; vector < 256; vector++) {
    const at = IDT + vector * (isLong ? 16 : 8)
    const handler = HANDLERS + vector * 16
    memory.write32(at, 0x8_0000 | (handler & 0xffff))
    memory.write32(at + 4, (handler & 0xffff_0000) | 0x8e00)
    memory.write8(handler, 0xf4)
  }
  const data = { selector: 0x10, base: 0n, limit: 0xffff_ffff, rights: FLAT }
  for (const number of Object.values(Segment) as SegmentNumber[]) {
    if (number !== Segment.CS) cpu.loadSegment(number, data)
  }
  const width = isLong ? SegmentRights.Long : SegmentRights.Default32
  const rights = (FLAT & ~SegmentRights.Default32) | SegmentRights.Code | width
  cpu.loadSegment(Segment.CS, { ...data, selector: 0x08, rights })
  cpu.rsp = BigInt(STACK_TOP)
  const events = new EventDelivery(interpreter.execution(cpu))
  const apic = new LocalApic({ clock: () => events.clock, onNmi: () => events.requestNmi() })
  cpu.localApic = apic
  memory.attachDevice(apic)
  apic.write(0xf0, 4, 0x1ff)
  return {
    machine,
    cpu,
    events,
    apic,
    place: (...bytes) => {
      memory.write(CODE, Uint8Array.from(bytes))
      cpu.rip = BigInt(CODE)
    },
    handle: (vector, ...bytes) => {
      memory.write(HANDLERS + vector * 16, Uint8Array.from(bytes))
    },
    run: (maxInstructions = 1000) => {
      if (events.run({ maxInstructions }) !== 'halted') return undefined
      const vector = Math.floor((Number(cpu.rip) - 1 - HANDLERS) / 16)
      return vector >= 0 && vector < 256 ? vector : undefined
    },
  }
}

/** The words of 64 bits on top of the stack. */
export function stackWords({ cpu, machine }: Computer, count: number): bigint[] {
  return Array.from({ length: count }, (_, index) =>
    machine.memory.read64(Number(cpu.rsp) + index * 8),
  )
}
