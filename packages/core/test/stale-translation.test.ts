import { describe, expect, test } from 'vitest'
import {
  type Cpu,
  inspectAddress,
  type Machine,
  type MachineEvent,
  phys,
  virt,
} from '../src/index.ts'
import { mappedMachine } from './mapped-machine.ts'

const PAGE = virt(0x40_0000_0000n)
const NEIGHBOUR = virt(0x40_0000_1000n)

type StaleEvent = Extract<MachineEvent, { kind: 'stale-translation' }>

const staleEvents = (machine: Machine): StaleEvent[] =>
  machine.log.events.filter((event): event is StaleEvent => event.kind === 'stale-translation')

/** Physical address of the entry at `depth` that the tables have for an address. */
function entryAddress(cpu: Cpu, address: bigint, depth: number): number {
  const { table, index } = inspectAddress(cpu.translationContext(), address).steps[depth]!
  return table + index * 8
}

function mapped() {
  const made = mappedMachine({ cpus: 2 })
  made.tables.mapRange(PAGE, phys(0x20_0000), 4096)
  made.tables.mapRange(NEIGHBOUR, phys(0x21_0000), 4096)
  return made
}

describe('a translation that is used after its entry was changed', () => {
  test('is an event that tells what was held, what is, and who changed it', () => {
    const { machine, cpu } = mapped()
    machine.log.era = 'first kernel'
    cpu.read8(PAGE)
    machine.memory.write64(entryAddress(cpu, PAGE, 3), 0x30_0063n)
    cpu.read8(PAGE)
    expect(staleEvents(machine)).toEqual([
      expect.objectContaining({
        cpu: 0,
        address: PAGE,
        access: 'read',
        via: 'TLB',
        held: expect.objectContaining({ status: 'mapped', frame: 0x200, executable: false }),
        now: expect.objectContaining({ status: 'mapped', frame: 0x300, executable: true }),
        changedBy: 'first kernel',
      }),
    ])
  })

  test('names the code that ran, on the CPU that ran it', () => {
    const { machine, cpu, tables } = mapped()
    const other = machine.cpus[1]!
    const code = virt(0x50_0000_0000n)
    tables.mapRange(code, phys(0x40_0000), 4096, { executable: true })
    tables.mapRange(virt(0x50_0000_1000n), phys(0x41_0000), 4096)
    other.rsp = code + 0x2000n
    const gate = machine.gates.bind({
      name: 'SetVariable',
      image: 'VariableRuntimeDxe',
      run: () => {
        machine.memory.write64(entryAddress(other, PAGE, 3), 0n)
        return 0n
      },
    })
    machine.memory.write(0x40_0000, gate)
    cpu.write8(PAGE, 1)
    other.call(code)
    cpu.write8(PAGE, 2)
    expect(staleEvents(machine)).toEqual([
      expect.objectContaining({
        cpu: 0,
        access: 'write',
        now: { status: 'not-present' },
        changedBy: 'VariableRuntimeDxe: SetVariable on CPU 1',
      }),
    ])
  })

  test('is reported once, and not at all after INVLPG', () => {
    const { machine, cpu } = mapped()
    cpu.read8(PAGE)
    cpu.read8(NEIGHBOUR)
    machine.memory.write64(entryAddress(cpu, PAGE, 3), 0x30_0063n)
    machine.memory.write64(entryAddress(cpu, NEIGHBOUR, 3), 0x31_0063n)
    cpu.invlpg(NEIGHBOUR)
    for (let time = 0; time < 3; time++) {
      cpu.read8(PAGE)
      cpu.read8(NEIGHBOUR)
    }
    expect(staleEvents(machine).map(({ address }) => address)).toEqual([PAGE])
  })

  test('is none where the entry changed in nothing that matters', () => {
    const { machine, cpu } = mapped()
    cpu.read8(PAGE)
    const entry = entryAddress(cpu, PAGE, 3)
    machine.memory.write64(entry, machine.memory.read64(entry) | (1n << 9n))
    cpu.read8(PAGE)
    expect(staleEvents(machine)).toEqual([])
  })

  test('is no event where audits are off, but as stale as before', () => {
    const { machine, cpu, tables } = mappedMachine({ auditTranslations: false })
    tables.mapRange(PAGE, phys(0x20_0000), 4096)
    cpu.read8(PAGE)
    machine.memory.write64(entryAddress(cpu, PAGE, 3), 0x30_0063n)
    expect(cpu.translate(PAGE, 'read')).toBe(0x20_0000)
    expect(staleEvents(machine)).toEqual([])
  })
})

describe('a paging-structure cache', () => {
  test('leads to the old table for a page that was never used, and says so', () => {
    const { machine, cpu } = mapped()
    cpu.read8(PAGE)
    const pde = entryAddress(cpu, PAGE, 2)
    machine.memory.write64(0x80_0008, 0x77_7063n)
    machine.memory.write64(pde, 0x80_0063n)
    expect(cpu.translate(NEIGHBOUR, 'read')).toBe(0x21_0000)
    expect(staleEvents(machine)).toEqual([
      expect.objectContaining({
        address: NEIGHBOUR,
        via: 'paging-structure cache',
        held: expect.objectContaining({ frame: 0x210 }),
        now: expect.objectContaining({ frame: 0x777 }),
      }),
    ])
  })

  test('is emptied by INVLPG of any page', () => {
    const { machine, cpu } = mapped()
    cpu.read8(PAGE)
    const pde = entryAddress(cpu, PAGE, 2)
    machine.memory.write64(0x80_0008, 0x77_7063n)
    machine.memory.write64(pde, 0x80_0063n)
    cpu.invlpg(0x1234_5000n)
    expect(cpu.translate(NEIGHBOUR, 'read')).toBe(0x77_7000)
  })

  test('can be switched off: then every walk starts at the root', () => {
    const { machine, cpu } = mappedMachine({ structureCaches: false })
    machine.memory.write64(0x1_0000, 0x1_1067n)
    machine.memory.write64(0x1_1000, 0x1_2067n)
    machine.memory.write64(0x1_2000, 0x1_3067n)
    machine.memory.write64(0x1_3000, 0x20_0067n)
    machine.memory.write64(0x1_4008, 0x21_0067n)
    cpu.read8(0n)
    machine.memory.write64(0x1_2000, 0x1_4067n)
    expect(cpu.translate(0x1000n, 'read')).toBe(0x21_0000)
  })
})

describe('a change that is never flushed', () => {
  test('is found in the TLB of every CPU that holds what was', () => {
    const { machine, cpu } = mapped()
    const other = machine.cpus[1]!
    cpu.read8(PAGE)
    other.read8(PAGE)
    other.read8(NEIGHBOUR)
    machine.log.era = 'second kernel'
    machine.memory.write64(entryAddress(cpu, PAGE, 3), 0n)
    cpu.invlpg(PAGE)
    expect(machine.reportUnflushed()).toEqual([
      expect.objectContaining({ cpu: 1, address: PAGE, changedBy: 'second kernel' }),
    ])
    expect(machine.log.events.at(-1)).toMatchObject({ kind: 'unflushed-change', cpu: 1 })
  })

  test('is gone after a shootdown', () => {
    const { machine, cpu } = mapped()
    for (const one of machine.cpus) one.read8(PAGE)
    machine.memory.write64(entryAddress(cpu, PAGE, 3), 0n)
    machine.shootdown(cpu, (one) => {
      one.invlpg(PAGE)
    })
    expect(machine.reportUnflushed()).toEqual([])
    expect(machine.log.events).toContainEqual(
      expect.objectContaining({ kind: 'shootdown', cpu: 0, targets: [1] }),
    )
  })
})
