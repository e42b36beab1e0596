import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  ApicBase,
  LOCAL_APIC_ADDRESS,
  LocalApic,
  PhysicalMemory,
  X2APIC_MSRS,
} from '../src/index.ts'

const TPR = 0x80
const PPR = 0xa0
const EOI = 0xb0
const LDR = 0xd0
const SVR = 0xf0
const ESR = 0x280
const ICR = 0x300
const ICR2 = 0x310
const LVT_TIMER = 0x320
const LVT_ERROR = 0x370
const INITIAL = 0x380
const CURRENT = 0x390
const DIVIDE = 0x3e0

interface World {
  readonly apic: LocalApic
  readonly told: string[]
  readonly advance: (ticks: number) => void
}

function world({ enabled = true }: { enabled?: boolean } = {}): World {
  let now = 0
  const told: string[] = []
  const apic = new LocalApic({
    clock: () => now,
    onNmi: () => told.push('NMI'),
    onEndOfInterrupt: (vector) => told.push(`EOI ${vector}`),
  })
  if (enabled) apic.write(SVR, 4, 0x1ff)
  return {
    apic,
    told,
    advance: (ticks) => {
      now += ticks
    },
  }
}

function toX2Apic(apic: LocalApic): void {
  expect(apic.writeApicBase(BigInt(apic.apicBase + ApicBase.X2Apic))).toBe(true)
}

describe('priorities', () => {
  test('the highest vector comes first, one of the same class waits for the end of the other', () => {
    const { apic } = world()
    apic.request(0x31)
    apic.request(0x52)
    expect(apic.pendingVector()).toBe(0x52)
    apic.acknowledge(0x52)
    apic.request(0x5f)
    expect([apic.pendingVector(), apic.read(PPR, 4)]).toEqual([-1, 0x50])
    apic.write(EOI, 4, 0)
    expect(apic.pendingVector()).toBe(0x5f)
  })

  test('the task priority holds its class back, and CR8 is the same register', () => {
    const { apic } = world()
    apic.request(0x45)
    apic.taskPriorityClass = 4
    expect([apic.pendingVector(), apic.read(TPR, 4)]).toEqual([-1, 0x40])
    apic.write(TPR, 4, 0x3f)
    expect([apic.pendingVector(), apic.taskPriorityClass]).toEqual([0x45, 3])
  })

  test('what is pending is always the highest request above the processor’s priority', () => {
    const vectors = fc.uniqueArray(fc.integer({ min: 16, max: 255 }), { maxLength: 8 })
    fc.assert(
      fc.property(vectors, fc.integer({ min: 0, max: 15 }), (requested, priority) => {
        const { apic } = world()
        for (const vector of requested) apic.request(vector)
        apic.taskPriorityClass = priority
        const eligible = requested.filter((vector) => vector >>> 4 > priority)
        expect(apic.pendingVector()).toBe(Math.max(-1, ...eligible))
      }),
    )
  })

  test('a level-triggered interrupt is told at its end', () => {
    const { apic, told } = world()
    apic.request(0x41, 'level')
    apic.acknowledge(0x41)
    apic.write(EOI, 4, 0)
    apic.write(EOI, 4, 0)
    expect(told).toEqual(['EOI 65'])
  })

  test('nothing is requested while software has it disabled', () => {
    const { apic } = world({ enabled: false })
    apic.request(0x41)
    expect(apic.pendingVector()).toBe(-1)
  })
})

describe('interprocessor interrupts', () => {
  test.each<[string, number, number, number]>([
    ['to itself by shorthand', 0x4_0041, 0, 0x41],
    ['to all', 0x8_0041, 0, 0x41],
    ['to all but itself', 0xc_0041, 0, -1],
    ['to its ID', 0x0041, 0, 0x41],
    ['to another ID', 0x0041, 0x0100_0000, -1],
    ['to everybody', 0x0041, 0xff00_0000, 0x41],
    ['to its logical ID', 0x0841, 0x0400_0000, 0x41],
    ['to another logical ID', 0x0841, 0x0800_0000, -1],
    ['INIT to all but itself', 0xc_4500, 0, -1],
  ])('%s', (_, command, destination, expected) => {
    const { apic } = world()
    apic.write(LDR, 4, 0x0400_0000)
    apic.write(ICR2, 4, destination)
    apic.write(ICR, 4, command)
    expect([apic.pendingVector(), apic.read(ICR, 4)]).toEqual([expected, command])
  })

  test('an NMI is told', () => {
    const { apic, told } = world()
    apic.write(ICR, 4, 0x4_0400)
    expect(told).toEqual(['NMI'])
  })

  test('a vector below 16 is an error, with an interrupt of its own where that is wanted', () => {
    const { apic } = world()
    apic.write(LVT_ERROR, 4, 0x55)
    apic.write(ICR, 4, 0x4_000f)
    expect(apic.pendingVector()).toBe(0x55)
    expect(apic.read(ESR, 4)).toBe(0)
    apic.write(ESR, 4, 0)
    expect(apic.read(ESR, 4)).toBe(0x20)
  })
})

describe('the timer', () => {
  test('counts down by the divided clock, and interrupts once', () => {
    const { apic, advance } = world()
    apic.write(DIVIDE, 4, 0x1)
    apic.write(LVT_TIMER, 4, 0x60)
    apic.write(INITIAL, 4, 100)
    expect(apic.nextTimerInterrupt()).toBe(400)
    advance(200)
    expect([apic.read(CURRENT, 4), apic.pendingVector()]).toEqual([50, -1])
    advance(200)
    expect([apic.read(CURRENT, 4), apic.pendingVector()]).toEqual([0, 0x60])
    expect(apic.nextTimerInterrupt()).toBe(Infinity)
  })

  test('goes on by itself in periodic mode', () => {
    const { apic, advance } = world()
    apic.write(DIVIDE, 4, 0xb)
    apic.write(LVT_TIMER, 4, 0x2_0060)
    apic.write(INITIAL, 4, 100)
    for (let period = 1; period <= 3; period++) {
      advance(100)
      expect(apic.pendingVector()).toBe(0x60)
      apic.acknowledge(0x60)
      apic.write(EOI, 4, 0)
      expect(apic.nextTimerInterrupt()).toBe((period + 1) * 100)
    }
  })

  test('asks for nothing while it is masked', () => {
    const { apic, advance } = world()
    apic.write(INITIAL, 4, 100)
    advance(1000)
    expect([apic.pendingVector(), apic.nextTimerInterrupt()]).toEqual([-1, Infinity])
  })
})

describe('IA32_APIC_BASE', () => {
  test.each<[string, number[], boolean]>([
    ['xAPIC to x2APIC', [0xd00], true],
    ['x2APIC to xAPIC', [0xd00, 0x900], false],
    ['x2APIC to off', [0xd00, 0x100], true],
    ['off to x2APIC', [0x100, 0xd00], false],
    ['x2APIC without enable', [0x500], false],
    ['a reserved bit', [0x901], false],
    ['another address', [0x1900], false],
  ])('%s', (_, steps, allowed) => {
    const { apic } = world()
    const results = steps.map((flags) => apic.writeApicBase(BigInt(LOCAL_APIC_ADDRESS + flags)))
    expect(results.at(-1)).toBe(allowed)
  })

  test('registers in memory are gone where it is off or an x2APIC, and off forgets everything', () => {
    const { apic } = world()
    apic.write(TPR, 4, 0x50)
    apic.request(0x61)
    expect(apic.writeApicBase(BigInt(LOCAL_APIC_ADDRESS + ApicBase.BootProcessor))).toBe(true)
    expect([apic.read(TPR, 4), apic.isEnabled]).toEqual([0xffff_ffff, false])
    expect(apic.writeApicBase(BigInt(LOCAL_APIC_ADDRESS + 0x900))).toBe(true)
    expect([apic.read(TPR, 4), apic.read(SVR, 4), apic.pendingVector()]).toEqual([0, 0xff, -1])
  })
})

describe('x2APIC registers', () => {
  test('are MSRs, with the interrupt command in one of 64 bits, and a logical ID from the ID', () => {
    const apic = new LocalApic({ id: 0x23, clock: () => 0 })
    toX2Apic(apic)
    expect(apic.writeMsr(X2APIC_MSRS + 0x0f, 0x1ffn)).toBe(true)
    expect([apic.readMsr(X2APIC_MSRS + 2), apic.readMsr(X2APIC_MSRS + 0xd)]).toEqual([
      0x23n,
      0x2_0008n,
    ])
    expect(apic.writeMsr(X2APIC_MSRS + 0x30, (0x23n << 32n) | 0x41n)).toBe(true)
    expect(apic.readMsr(X2APIC_MSRS + 0x30)).toBe((0x23n << 32n) | 0x41n)
    expect(apic.writeMsr(X2APIC_MSRS + 0x3f, 0x42n)).toBe(true)
    expect(apic.pendingVector()).toBe(0x42)
  })

  test.each<[string, number, bigint | undefined]>([
    ['a write to the ID', 0x02, 1n],
    ['a write to the version', 0x03, 0n],
    ['a non-zero EOI', 0x0b, 1n],
    ['reserved bits of TPR', 0x08, 0x100n],
    ['more than 32 bits', 0x08, 1n << 32n],
    ['a register that there is not', 0x04, 0n],
    ['a read of EOI', 0x0b, undefined],
    ['a read of the destination format', 0x0e, undefined],
    ['reserved bits of an LVT entry', 0x32, 0x100_0000n],
  ])('%s is refused', (_, register, value) => {
    const { apic } = world()
    toX2Apic(apic)
    const result =
      value === undefined
        ? apic.readMsr(X2APIC_MSRS + register)
        : apic.writeMsr(X2APIC_MSRS + register, value)
    expect(result).toBe(value === undefined ? undefined : false)
  })

  test('are none while the APIC is an xAPIC', () => {
    const { apic } = world()
    expect([apic.readMsr(X2APIC_MSRS + 2), apic.writeMsr(X2APIC_MSRS + 8, 0n)]).toEqual([
      undefined,
      false,
    ])
  })
})

test('an access to a register that is not there is noted as an error', () => {
  const { apic } = world()
  apic.write(0x40, 4, 1)
  apic.write(ESR, 4, 0)
  expect([apic.read(ESR, 4), apic.read(0x30, 4), apic.read(0x31, 1)]).toEqual([0x80, 0x5_0014, 0])
})

test('a fork of the memory has an APIC of its own in the same state', () => {
  const { apic } = world()
  const memory = new PhysicalMemory()
  memory.attachDevice(apic)
  memory.writeByCpu(LOCAL_APIC_ADDRESS + TPR, 4, 0x70)
  const fork = memory.fork()
  fork.writeByCpu(LOCAL_APIC_ADDRESS + TPR, 4, 0x20)
  expect([memory, fork].map((each) => each.readByCpu(LOCAL_APIC_ADDRESS + TPR, 4))).toEqual([
    0x70, 0x20,
  ])
})
