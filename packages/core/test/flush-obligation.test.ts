import { describe, expect, test } from 'vitest'
import {
  BROADWELL,
  Cr4,
  type CpuFeatures,
  type FlushObligation,
  NEHALEM,
  NOTHING_TO_FLUSH,
  PAGE_SIZE,
  PAGE_SIZE_2M,
  phys,
  virt,
} from '../src/index.ts'
import { type MappedMachine, mappedMachine } from './mapped-machine.ts'

const START = virt(0xffff_8800_4000_0000n)
const OLD = 0x20_0000
const NEW = 0x4000_0000

/** A machine whose CPUs all have cached what {@link START} maps, `pages` global pages, and the obligation of mapping them elsewhere. */
function remapped(
  options: {
    readonly features?: CpuFeatures
    readonly cpus?: number
    readonly pages?: number
  } = {},
): MappedMachine & {
  readonly flush: FlushObligation
  /** Events before the obligation. */
  readonly since: number
} {
  const mapped = mappedMachine(options)
  const bytes = (options.pages ?? 2) * PAGE_SIZE
  mapped.tables.mapRange(START, phys(OLD), bytes, { global: true })
  for (const cpu of mapped.machine.cpus) {
    if (mapped.machine.features.pge) cpu.writeCr4(cpu.cr4 | Cr4.PGE)
    for (let at = 0; at < bytes; at += PAGE_SIZE) cpu.translate(START + BigInt(at), 'read')
  }
  const flush = mapped.tables.mapRange(START, phys(NEW), bytes, { global: true, replace: true })
  return { ...mapped, flush, since: mapped.machine.log.events.length }
}

/** What a machine's CPUs were told to drop since the obligation arose. */
function invalidations({ machine, since }: ReturnType<typeof remapped>): string[] {
  return machine.log.events
    .slice(since)
    .map(({ kind }) => kind)
    .filter((kind) => ['invlpg', 'cr4-write', 'cr3-write', 'shootdown'].includes(kind))
}

test('without the flush the old page is seen, with it the new one', () => {
  const { cpu, flush } = remapped()
  expect(cpu.translate(START + 0x1000n, 'read')).toBe(OLD + 0x1000)
  flush.flush(cpu)
  expect(cpu.translate(START, 'read')).toBe(NEW)
  expect(cpu.translate(START + 0x1000n, 'read')).toBe(NEW + 0x1000)
})

describe('a flush', () => {
  test('of 33 pages is 33 INVLPGs', () => {
    const mapped = remapped({ pages: 33 })
    mapped.flush.flush(mapped.cpu)
    expect(invalidations(mapped)).toEqual(Array.from({ length: 33 }, () => 'invlpg'))
    expect(mapped.machine.reportUnflushed()).toEqual([])
  })

  test('of 34 pages drops everything, global pages too', () => {
    const mapped = remapped({ pages: 34 })
    const { cr4 } = mapped.cpu
    mapped.flush.flush(mapped.cpu)
    expect(invalidations(mapped)).toEqual(['cr4-write', 'cr4-write'])
    expect(mapped.machine.reportUnflushed()).toEqual([])
    expect(mapped.cpu.cr4).toBe(cr4)
  })

  test('where CPUs have no global pages is a load of CR3', () => {
    const mapped = remapped({ pages: 34, features: { ...NEHALEM, pge: false } })
    mapped.flush.flush(mapped.cpu)
    expect(invalidations(mapped)).toEqual(['cr3-write'])
    expect(mapped.cpu.translate(START, 'read')).toBe(NEW)
  })

  test('with PCIDs drops what other contexts hold', () => {
    const { cpu, tables } = mappedMachine({ features: BROADWELL })
    tables.mapRange(START, phys(OLD), PAGE_SIZE)
    cpu.writeCr4(cpu.cr4 | Cr4.PCIDE)
    cpu.writeCr3(tables.root + 1)
    cpu.translate(START, 'read')
    cpu.writeCr3(tables.root + 2)
    tables.unmapRange(START, PAGE_SIZE).flush(cpu)
    cpu.writeCr3((1n << 63n) | BigInt(tables.root + 1))
    expect(() => cpu.translate(START, 'read')).toThrow(expect.objectContaining({ vector: 14 }))
  })

  test('of a large page that was split for a change is one INVLPG', () => {
    const mapped = mappedMachine()
    const { cpu, tables } = mapped
    tables.mapRange(START, phys(0), PAGE_SIZE_2M, { largestPage: PAGE_SIZE_2M })
    cpu.translate(START + 0x5000n, 'write')
    const flush = tables.unmapRange(virt(START + 0x5000n), PAGE_SIZE)
    expect(flush.ranges).toEqual([{ start: START, bytes: PAGE_SIZE_2M, pageSize: PAGE_SIZE_2M }])
    const before = cpu.counters.invlpgs
    flush.flush(cpu)
    expect(cpu.counters.invlpgs - before).toBe(1)
    expect(() => cpu.translate(START + 0x5000n, 'read')).toThrow(
      expect.objectContaining({ vector: 14 }),
    )
    expect(cpu.translate(START + 0x6000n, 'read')).toBe(0x6000)
  })

  test('of a root entry that led to a table drops everything', () => {
    const { cpu, tables } = mappedMachine()
    tables.mapRange(START, phys(OLD), PAGE_SIZE)
    cpu.translate(START, 'read')
    const flush = tables.setRootEntry(272, 0n)
    expect(flush.ranges).toEqual([
      { start: 0xffff_8800_0000_0000n, bytes: 2 ** 39, pageSize: 'table' },
    ])
    flush.flush(cpu)
    expect(() => cpu.translate(START, 'read')).toThrow(expect.objectContaining({ vector: 14 }))
  })
})

test('a shootdown reaches every CPU, where a flush reaches one', () => {
  const mapped = remapped({ cpus: 3 })
  const second = mapped.tables.mapRange(virt(START + 0x10_0000n), phys(0), PAGE_SIZE)
  expect(second).toBe(NOTHING_TO_FLUSH)
  mapped.flush.shootdown(mapped.machine.cpus[1]!)
  for (const cpu of mapped.machine.cpus) expect(cpu.translate(START, 'read')).toBe(NEW)
  expect(invalidations(mapped).filter((kind) => kind === 'shootdown')).toHaveLength(1)
})

describe('an obligation', () => {
  test('is outstanding until it is discharged, the oldest first', () => {
    const { cpu, tables, flush } = remapped()
    const later = tables.unmapRange(START, PAGE_SIZE)
    expect(tables.outstanding).toEqual([flush, later])
    expect(flush.isDischarged).toBe(false)
    flush.flush(cpu)
    expect(flush.isDischarged).toBe(true)
    expect(tables.outstanding).toEqual([later])
    later.ignore('nobody runs on these tables')
    expect(later.isDischarged).toBe(true)
    expect(later.ignoredBecause).toBe('nobody runs on these tables')
    expect(tables.outstanding).toEqual([])
  })

  test('that was discharged can be flushed again, and stays what it is', () => {
    const { cpu, flush } = remapped()
    flush.ignore('no CPU has cached it')
    flush.flush(cpu)
    expect(cpu.translate(START, 'read')).toBe(NEW)
    expect(flush.ignoredBecause).toBe('no CPU has cached it')
  })

  test('of what was mapped nowhere before is the empty one, which is discharged', () => {
    const { cpu, tables } = mappedMachine()
    const flush = tables.mapRange(START, phys(OLD), PAGE_SIZE)
    expect(flush).toBe(NOTHING_TO_FLUSH)
    expect(flush.isDischarged).toBe(true)
    expect(flush.ranges).toEqual([])
    expect(tables.outstanding).toEqual([])
    const before = cpu.counters.invlpgs
    flush.flush(cpu)
    flush.shootdown(cpu)
    expect(cpu.counters.invlpgs).toBe(before)
  })

  test('of what was mapped so already is the empty one', () => {
    const { tables } = remapped()
    const same = { global: true, replace: true }
    expect(tables.mapRange(START, phys(NEW), 2 * PAGE_SIZE, same)).toBe(NOTHING_TO_FLUSH)
    expect(tables.setRootEntry(0, tables.rootEntry(0))).toBe(NOTHING_TO_FLUSH)
    expect(tables.copyRootEntries(tables, 0, 512)).toBe(NOTHING_TO_FLUSH)
  })

  test('of a raw entry names its page where that was present', () => {
    const { tables } = remapped()
    expect(tables.writeEntry(START, 0n).ranges).toEqual([
      { start: START, bytes: PAGE_SIZE, pageSize: PAGE_SIZE },
    ])
    expect(tables.writeEntry(START, 0x63n)).toBe(NOTHING_TO_FLUSH)
  })
})
