import {
  Cr4,
  Gpr,
  inspectAddress,
  type MemoryDevice,
  PageFault,
  PAGE_SIZE,
  phys,
  type PhysicalAddress,
  StackFault,
  virt,
} from '@trapdoor/core'
import { beforeEach, describe, expect, test } from 'vitest'
import {
  CODE,
  type CodeMachine,
  codeMachine,
  DATA,
  DATA_PHYSICAL,
  execute,
} from './code-machine.ts'

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
})

/** mov rax, [rcx] */
const LOAD = [0x48, 0x8b, 0x01]
/** mov [rcx], rdx */
const STORE = [0x48, 0x89, 0x11]

function load(address: bigint): bigint {
  target.cpu.general64[Gpr.RCX] = address
  execute(target, ...LOAD)
  return target.cpu.general64[Gpr.RAX]!
}

function store(address: bigint, value: bigint): void {
  target.cpu.general64[Gpr.RCX] = address
  target.cpu.general64[Gpr.RDX] = value
  execute(target, ...STORE)
}

/** The entry of the last level for an address. */
function entryAddress(address: bigint): PhysicalAddress {
  const { steps } = inspectAddress(target.cpu.translationContext(), address)
  const { table, index } = steps.at(-1)!
  return phys(table + index * 8)
}

describe('what a translation that is held allows', () => {
  test('goes on until INVLPG, and its use is told', () => {
    store(DATA, 1n)
    expect(load(DATA)).toBe(1n)
    target.tables.unmapRange(virt(DATA), PAGE_SIZE)
    expect(load(DATA)).toBe(1n)
    const { events } = target.machine.log
    expect(events.filter(({ kind }) => kind === 'stale-translation')).toHaveLength(1)
    expect(load(DATA)).toBe(1n)
    expect(events.filter(({ kind }) => kind === 'stale-translation')).toHaveLength(1)
    target.cpu.invlpg(DATA)
    expect(() => load(DATA)).toThrow(PageFault)
  })

  test.each<[string, () => void]>([
    ['a load of CR3', () => target.cpu.writeCr3(target.cpu.cr3)],
    ['a change of CR4.PGE', () => target.cpu.writeCr4(target.cpu.cr4 | Cr4.PGE)],
    [
      'a fault at the address',
      () => expect(() => target.cpu.write8(0x90_0000n, 0)).toThrow(PageFault),
    ],
  ])('is looked up again after %s', (_name, flush) => {
    store(DATA, 1n)
    const { tlbHits, tlbMisses } = target.cpu.counters
    expect(load(DATA)).toBe(1n)
    expect(target.cpu.counters).toMatchObject({ tlbMisses })
    flush()
    load(DATA)
    const after = target.cpu.counters
    expect(after.tlbHits + after.tlbMisses).toBeGreaterThan(tlbHits + tlbMisses)
  })

  test('is that of the privilege level', () => {
    store(DATA, 1n)
    target.cpu.cpl = 3
    // The fetch comes first, so that code is made a user's.
    target.tables.changeRange(virt(CODE), PAGE_SIZE, (low, high) => [low | 4, high])
    target.cpu.writeCr3(target.cpu.cr3)
    expect(() => load(DATA)).toThrow(
      expect.objectContaining({ errorCode: 5, address: DATA, access: 'read' }),
    )
  })

  test('is that of the protection keys', () => {
    target.cpu.writeCr4(target.cpu.cr4 | Cr4.PKE)
    target.tables.changeRange(virt(DATA), PAGE_SIZE, (low, high) => [low | 4, high])
    target.cpu.writeCr3(target.cpu.cr3)
    store(DATA, 1n)
    target.cpu.writePkru(2)
    expect(load(DATA)).toBe(1n)
    expect(() => store(DATA, 2n)).toThrow(expect.objectContaining({ errorCode: 0x23 }))
  })

  test('is that of AC where SMAP is on', () => {
    target.tables.changeRange(virt(DATA), PAGE_SIZE, (low, high) => [low | 4, high])
    target.cpu.writeCr4(target.cpu.cr4 | Cr4.SMAP)
    target.cpu.alignmentCheck = true
    store(DATA, 1n)
    target.cpu.alignmentCheck = false
    expect(() => load(DATA)).toThrow(PageFault)
  })
})

describe('accessed and dirty flags', () => {
  beforeEach(() => {
    // The builder sets both.
    target.tables.changeRange(virt(DATA), PAGE_SIZE, (low, high) => [low & ~0x60, high])
  })

  test('are set by the first load and the first store', () => {
    const at = entryAddress(DATA)
    const flags = (): number => target.machine.memory.read32(at) & 0x60
    expect(flags()).toBe(0)
    load(DATA)
    expect(flags()).toBe(0x20)
    store(DATA, 1n)
    expect(flags()).toBe(0x60)
  })

  test('that are cleared stay clear until the translation is dropped', () => {
    const at = entryAddress(DATA)
    const { memory } = target.machine
    store(DATA, 1n)
    memory.write32(at, memory.read32(at) & ~0x60)
    store(DATA, 2n)
    expect(memory.read32(at) & 0x60).toBe(0)
    target.cpu.invlpg(DATA)
    store(DATA, 3n)
    expect(memory.read32(at) & 0x60).toBe(0x60)
  })

  test('a page that was only read is walked again for a store', () => {
    load(DATA)
    target.tables.changeRange(virt(DATA), PAGE_SIZE, (low, high) => [low & ~2, high])
    expect(() => store(DATA, 1n)).toThrow(PageFault)
  })
})

test('a store to page tables is one that core sees', () => {
  const { tables, machine, cpu } = target
  const window = 0x7f00_0000_0000n
  const entry = entryAddress(DATA)
  load(DATA)
  tables.mapRange(virt(window), phys(entry - (entry % PAGE_SIZE)), PAGE_SIZE)
  store(window + BigInt(entry % PAGE_SIZE), 0n)
  load(DATA)
  expect(machine.log.events.at(-1)).toMatchObject({ kind: 'stale-translation', address: DATA })
  cpu.invlpg(DATA)
  expect(() => load(DATA)).toThrow(PageFault)
})

test('what another writes to memory is seen, and what code writes others see', () => {
  const { memory } = target.machine
  store(DATA, 0x1122_3344_5566_7788n)
  expect(memory.read64(DATA_PHYSICAL)).toBe(0x1122_3344_5566_7788n)
  memory.write64(DATA_PHYSICAL, 5n)
  expect(load(DATA)).toBe(5n)
  memory.clearFrame(DATA_PHYSICAL / PAGE_SIZE)
  expect(load(DATA)).toBe(0n)
  memory.fill(DATA_PHYSICAL, DATA_PHYSICAL + PAGE_SIZE, 7)
  expect(load(DATA)).toBe(0x7_0000_0007n)
})

test('forks write to copies, whoever had the page before', () => {
  store(DATA, 1n)
  const fork = target.machine.fork()
  store(DATA, 2n)
  expect(fork.memory.read64(DATA_PHYSICAL)).toBe(1n)
  const other: CodeMachine = { ...target, machine: fork, cpu: fork.bootCpu }
  other.cpu.general64[Gpr.RCX] = DATA
  other.cpu.general64[Gpr.RDX] = 3n
  execute(other, ...STORE)
  expect(fork.memory.read64(DATA_PHYSICAL)).toBe(3n)
  expect(load(DATA)).toBe(2n)
})

describe('an access that is not aligned', () => {
  test.each([1, 2, 3, 4, 5, 6, 7])('by %i bytes within a page is as any other', (by) => {
    const address = DATA + 16n + BigInt(by)
    store(address, 0x1122_3344_5566_7788n)
    expect(load(address)).toBe(0x1122_3344_5566_7788n)
    expect(target.machine.memory.read64(DATA_PHYSICAL + 16 + by)).toBe(0x1122_3344_5566_7788n)
  })

  test.each([1, 2, 3, 4, 5, 6, 7])('with %i bytes in the next page is one of two pages', (over) => {
    const address = DATA + 4096n - 8n + BigInt(over)
    store(address, 0x1122_3344_5566_7788n)
    expect(load(address)).toBe(0x1122_3344_5566_7788n)
  })

  test('that faults in its second page writes nothing to the first', () => {
    const { memory } = target.machine
    const last = DATA + 16n * 4096n - 4n
    const before = memory.read64(DATA_PHYSICAL + 16 * 4096 - 8)
    expect(() => store(last, -1n)).toThrow(expect.objectContaining({ address: DATA + 16n * 4096n }))
    expect(memory.read64(DATA_PHYSICAL + 16 * 4096 - 8)).toBe(before)
  })
})

test('an address that is not canonical is #GP, and #SS by RSP and RBP', () => {
  const bad = 0x8000_0000_0000n
  expect(() => load(bad)).toThrow(expect.objectContaining({ mnemonic: '#GP' }))
  target.cpu.rsp = bad
  // mov rax, [rsp]
  expect(() => execute(target, 0x48, 0x8b, 0x04, 0x24)).toThrow(StackFault)
  target.cpu.rsp = bad + 8n
  // push rax
  expect(() => execute(target, 0x50)).toThrow(StackFault)
  expect(target.cpu.rsp).toBe(bad + 8n)
})

describe('a device', () => {
  class Register implements MemoryDevice {
    readonly name = 'register'
    readonly start = DATA_PHYSICAL
    readonly end = DATA_PHYSICAL + PAGE_SIZE
    readsAsMemory = false
    readonly seen: string[] = []
    read(offset: number, size: number): number {
      this.seen.push(`read ${size} at ${offset}`)
      if (offset === 0x800) this.readsAsMemory = true
      return 0x90 + offset
    }
    write(offset: number, size: number, value: number): void {
      this.seen.push(`write ${size} at ${offset}: ${value.toString(16)}`)
      this.readsAsMemory = value === 1
    }
    fork(): Register {
      return new Register()
    }
  }
  let device: Register

  beforeEach(() => {
    target.machine.memory.write64(DATA_PHYSICAL, 0x1234n)
    device = new Register()
  })

  test('answers each access to its pages, from when it is there', () => {
    expect(load(DATA)).toBe(0x1234n)
    target.machine.memory.attachDevice(device)
    expect(load(DATA)).toBe(0x94_0000_0090n)
    store(DATA + 8n, 0x1_0000_0002n)
    expect(device.seen).toEqual([
      'read 4 at 0',
      'read 4 at 4',
      'write 4 at 8: 2',
      'write 4 at 12: 1',
    ])
  })

  test('is asked by the bytes that an instruction accesses', () => {
    target.machine.memory.attachDevice(device)
    target.cpu.general64[Gpr.RCX] = DATA + 3n
    execute(target, 0x8a, 0x01) // mov al, [rcx]
    execute(target, 0x66, 0x89, 0x11) // mov [rcx], dx
    execute(target, 0x80, 0x09, 0x40) // or byte [rcx], 0x40
    expect(device.seen).toEqual([
      'read 1 at 3',
      'write 2 at 3: 0',
      'read 1 at 3',
      'write 1 at 3: d3',
    ])
  })

  test('that reads as memory for now is asked for stores alone', () => {
    target.machine.memory.attachDevice(device)
    store(DATA, 1n)
    device.seen.length = 0
    device.readsAsMemory = true
    target.cpu.general64[Gpr.RCX] = DATA
    target.cpu.general64[Gpr.RDX] = 1n
    execute(target, 0x88, 0x11) // mov [rcx], dl
    expect(load(DATA)).toBe(0x1234n)
    execute(target, 0xc6, 0x01, 2) // mov byte [rcx], 2
    expect(load(DATA)).toBe(0x94_0000_0090n)
    expect(device.seen).toEqual([
      'write 1 at 0: 1',
      'write 1 at 0: 2',
      'read 4 at 0',
      'read 4 at 4',
    ])
    load(DATA + 0x800n)
    expect(load(DATA)).toBe(0x1234n)
  })
})

describe('a recorder', () => {
  let touched: string[]

  beforeEach(() => {
    touched = []
    load(DATA)
    target.cpu.touchRecorder = (frame, access, address) => {
      touched.push(`${access} ${frame.toString(16)} ${address.toString(16)}`)
    }
  })

  test('is told of the first access of a kind to each page', () => {
    load(DATA + 8n)
    load(DATA)
    store(DATA, 1n)
    store(DATA + 16n, 1n)
    expect(touched.filter((each) => !each.startsWith('execute'))).toEqual([
      'read 300 500008',
      'write 300 500000',
    ])
  })

  test('is told of each access where it wants that, and no longer where it is gone', () => {
    target.cpu.recordsEveryAccess = true
    load(DATA + 8n)
    load(DATA)
    // add [rcx], rdx
    execute(target, 0x48, 0x01, 0x11)
    expect(touched).toEqual([
      'execute 200 400000',
      'read 300 500008',
      'execute 200 400000',
      'read 300 500000',
      'execute 200 400000',
      'write 300 500000',
      'read 300 500000',
      'write 300 500000',
    ])
    target.cpu.touchRecorder = undefined
    load(DATA)
    expect(touched).toHaveLength(8)
  })
})
