import { expect, test } from 'vitest'
import { Cr4, EventLog, GATE_SIZE, PAGE_SIZE, phys, virt } from '../src/index.ts'
import { mappedMachine } from './mapped-machine.ts'

const names = (events: EventLog['events']): string[] =>
  events.map((event) => (event.kind === 'phase' ? `${event.sequence} ${event.name}` : ''))

test('events are numbered in order and carry the era they happened in', () => {
  const log = new EventLog()
  log.emit({ kind: 'phase', name: 'boot services' })
  log.era = 'first kernel'
  log.emit({ kind: 'message', source: 'kernel', text: 'hello' })
  expect(log.events).toEqual([
    { kind: 'phase', name: 'boot services', sequence: 0, era: 'firmware' },
    { kind: 'message', source: 'kernel', text: 'hello', sequence: 1, era: 'first kernel' },
  ])
})

test('a fork starts with its parent’s events and goes on by itself', () => {
  const log = new EventLog()
  log.era = 'first kernel'
  log.emit({ kind: 'phase', name: 'one' })
  const fork = log.fork()
  fork.emit({ kind: 'phase', name: 'two' })
  log.emit({ kind: 'phase', name: 'three' })
  expect([names(log.events), names(fork.events), fork.era]).toEqual([
    ['0 one', '1 three'],
    ['0 one', '1 two'],
    'first kernel',
  ])
})

test('a machine logs control registers, invalidations, calls and exceptions', () => {
  const { machine, cpu, tables } = mappedMachine()
  const bytes = machine.gates.bind({ name: 'GetTime', image: 'PcRtc', run: () => 3n })
  tables.mapRange(virt(0x40_0000n), phys(0x20_0000), PAGE_SIZE, { executable: true })
  tables.mapRange(virt(0x50_0000n), phys(0x30_0000), PAGE_SIZE)
  machine.memory.write(0x20_0000, bytes)
  const first = machine.log.events.length
  cpu.rsp = 0x50_1000n
  cpu.writeCr3(0x1_0000)
  cpu.writeCr4(Cr4.PAE | Cr4.PGE)
  cpu.invlpg(0x1234n)
  cpu.call(0x40_0000n)
  expect(() => cpu.read8(0x1234n)).toThrow('page not present')
  expect(() => cpu.call(0x40_0000n + BigInt(GATE_SIZE))).toThrow('no instruction')
  const events = machine.log.events
    .slice(first)
    .map(({ sequence: _sequence, era: _era, ...body }) => body)
  expect(events).toEqual([
    { kind: 'cr3-write', cpu: 0, from: 0x1_0000, to: 0x1_0000 },
    { kind: 'cr4-write', cpu: 0, from: Cr4.PAE, to: Cr4.PAE | Cr4.PGE },
    { kind: 'invlpg', cpu: 0, address: 0x1234n },
    { kind: 'call', cpu: 0, rip: 0x40_0000n, name: 'GetTime', image: 'PcRtc' },
    { kind: 'return', cpu: 0, name: 'GetTime', image: 'PcRtc', rax: 3n },
    {
      kind: 'exception',
      cpu: 0,
      mnemonic: '#PF',
      message: 'read at 0x0000000000001234: supervisor read, page not present',
      address: 0x1234n,
      access: 'read',
      errorCode: 0,
    },
    {
      kind: 'exception',
      cpu: 0,
      mnemonic: '#UD',
      message: 'no instruction at 0x0000000000400008: 00 00 00 00 00 00 00 00',
      address: undefined,
      access: undefined,
      errorCode: undefined,
    },
  ])
})
