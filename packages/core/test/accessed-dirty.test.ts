import { beforeEach, expect, test } from 'vitest'
import { type Access, PAGE_SIZE, PageFault, phys, virt } from '../src/index.ts'
import { type MappedMachine, mappedMachine } from './mapped-machine.ts'

const PAGE = 0x40_0000n
const ACCESSED = 0x20n
const DIRTY = 0x40n
/** Frames of the tables that mapping one page in an empty root takes, and the index of the entry in each. */
const PATH = [0x1_0000, 0x1_1000, 0x1_2000 + 2 * 8, 0x1_3000]

let mapped: MappedMachine

beforeEach(() => {
  mapped = mappedMachine()
  mapped.tables.mapRange(virt(PAGE), phys(0x20_0000), PAGE_SIZE, { tableFlags: 0x7 })
  mapped.tables.writeEntry(virt(PAGE), 0x20_0003n)
})

/** The accessed and dirty flags of the four entries, from the root down. */
const flags = (): string[] =>
  PATH.map((address) => {
    const entry = mapped.machine.memory.read64(address)
    return `${(entry & ACCESSED) === 0n ? '-' : 'A'}${(entry & DIRTY) === 0n ? '-' : 'D'}`
  })

const touch = (access: Access): number => mapped.cpu.translate(PAGE, access)

test('a read sets the accessed flag of every entry it used', () => {
  touch('read')
  expect(flags()).toEqual(['A-', 'A-', 'A-', 'A-'])
})

test('a fetch does as a read does', () => {
  touch('execute')
  expect(flags()).toEqual(['A-', 'A-', 'A-', 'A-'])
})

test('a write sets the dirty flag of the leaf alone', () => {
  touch('write')
  expect(flags()).toEqual(['A-', 'A-', 'A-', 'AD'])
})

test('a write through a translation that a read left sets the dirty flag', () => {
  touch('read')
  touch('write')
  expect(flags()).toEqual(['A-', 'A-', 'A-', 'AD'])
})

test('an accessed flag that software cleared stays clear until the translation is flushed', () => {
  touch('read')
  mapped.tables.writeEntry(virt(PAGE), 0x20_0003n)
  touch('read')
  expect(flags()).toEqual(['A-', 'A-', 'A-', '--'])
  mapped.cpu.invlpg(PAGE)
  touch('read')
  expect(flags()).toEqual(['A-', 'A-', 'A-', 'A-'])
})

test('a dirty flag that software cleared stays clear until the translation is flushed', () => {
  touch('write')
  mapped.tables.writeEntry(virt(PAGE), 0x20_0003n)
  touch('write')
  expect(flags()[3]).toBe('--')
  mapped.cpu.writeCr3(mapped.cpu.cr3)
  touch('write')
  expect(flags()[3]).toBe('AD')
})

test('an access that faults sets nothing', () => {
  mapped.tables.writeEntry(virt(PAGE), 0x20_0001n)
  expect(() => touch('write')).toThrow(PageFault)
  expect(flags()).toEqual(['--', '--', '--', '--'])
})

test('a page table that a fork shares with its parent gets its flags in the fork alone', () => {
  const fork = mapped.machine.fork()
  fork.bootCpu.translate(PAGE, 'write')
  expect(flags()).toEqual(['--', '--', '--', '--'])
  expect(fork.memory.read64(PATH[3]!) & (ACCESSED | DIRTY)).toBe(ACCESSED | DIRTY)
})
