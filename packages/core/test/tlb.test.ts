import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import {
  Cr0,
  Cr4,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  PageFault,
  phys,
  Tlb,
  type TlbEntry,
  virt,
} from '../src/index.ts'
import { type MappedMachine, mappedMachine } from './mapped-machine.ts'

const PAGE = 0x40_0000n
const OLD = 0x20_0000
const NEW = 0x30_0000

let mapped: MappedMachine

/** Maps {@link PAGE} to `physical`, whatever was there, without telling the TLB. */
function remap(physical: number, options: { global?: boolean; writable?: boolean } = {}): void {
  mapped.tables.mapRange(virt(PAGE), phys(physical), PAGE_SIZE, { replace: true, ...options })
}

const read = (address = PAGE): number => mapped.cpu.translate(address, 'read')

beforeEach(() => {
  mapped = mappedMachine()
})

describe('a stale translation', () => {
  beforeEach(() => {
    remap(OLD)
    read()
    remap(NEW)
  })

  test('is used until something takes it away', () => {
    expect(read()).toBe(OLD)
  })

  test('goes with INVLPG of any byte of its page', () => {
    mapped.cpu.invlpg(PAGE + 0xfffn)
    expect(read()).toBe(NEW)
  })

  test('survives INVLPG of another page', () => {
    mapped.cpu.invlpg(PAGE + 0x1000n)
    expect(read()).toBe(OLD)
  })

  test('goes with a write to CR3, even of the same value', () => {
    mapped.cpu.writeCr3(mapped.cpu.cr3)
    expect(read()).toBe(NEW)
  })

  test('survives a change of CR0.WP, of SMAP and of EFER', () => {
    mapped.cpu.writeCr0(Cr0.PE | Cr0.PG)
    mapped.cpu.writeCr4(Cr4.PAE | Cr4.SMAP)
    mapped.cpu.writeEfer(mapped.cpu.efer)
    expect(read()).toBe(OLD)
  })

  test('goes when SMEP is set, and stays when it is cleared', () => {
    mapped.cpu.writeCr4(Cr4.PAE | Cr4.SMEP)
    expect(read()).toBe(NEW)
    remap(OLD)
    mapped.cpu.writeCr4(Cr4.PAE)
    expect(read()).toBe(NEW)
  })

  test('is used although its page is gone from the tables', () => {
    mapped.tables.unmapRange(virt(PAGE), PAGE_SIZE)
    expect(read()).toBe(OLD)
  })

  test('goes with a page fault that another access to its page raises', () => {
    // The entry is clean, so that a write walks, and meets the change.
    mapped.tables.writeEntry(virt(PAGE), BigInt(OLD) | 0x23n)
    mapped.cpu.writeCr3(mapped.cpu.cr3)
    read()
    mapped.tables.unmapRange(virt(PAGE), PAGE_SIZE)
    expect(() => mapped.cpu.translate(PAGE, 'write')).toThrow(PageFault)
    expect(() => read()).toThrow(PageFault)
  })
})

test('a page that is not present is never cached', () => {
  expect(() => read()).toThrow(PageFault)
  expect(mapped.cpu.tlb.size).toBe(0)
  remap(NEW)
  expect(read()).toBe(NEW)
})

test('a page with a reserved bit is never cached', () => {
  mapped.tables.writeEntry(virt(PAGE), (1n << 51n) | 0x63n)
  expect(() => read()).toThrow(PageFault)
  remap(NEW)
  expect(read()).toBe(NEW)
})

test('rights that grew without a flush cost one spurious fault at the most', () => {
  remap(OLD, { writable: false })
  read()
  remap(OLD)
  let spurious: unknown
  try {
    mapped.cpu.translate(PAGE, 'write')
  } catch (error) {
    spurious = error
  }
  expect(spurious).toMatchObject({ errorCode: 0x03, steps: [] })
  expect(mapped.cpu.translate(PAGE, 'write')).toBe(OLD)
})

test('rights that shrank without a flush are still had', () => {
  remap(OLD)
  mapped.cpu.translate(PAGE, 'write')
  remap(OLD, { writable: false })
  expect(mapped.cpu.translate(PAGE, 'write')).toBe(OLD)
})

test('a translation belongs to the CPU that walked', () => {
  mapped = mappedMachine({ cpus: 2 })
  remap(OLD)
  read()
  remap(NEW)
  const other = mapped.machine.cpus[1]!
  expect(other.translate(PAGE, 'read')).toBe(NEW)
  other.invlpg(PAGE)
  other.writeCr3(other.cr3)
  expect(read()).toBe(OLD)
})

describe('a global translation', () => {
  beforeEach(() => {
    mapped.cpu.writeCr4(Cr4.PAE | Cr4.PGE)
    remap(OLD, { global: true })
    read()
    remap(NEW, { global: true })
  })

  test('survives a write to CR3', () => {
    mapped.cpu.writeCr3(mapped.cpu.cr3)
    expect(read()).toBe(OLD)
  })

  test('answers under another root that maps nothing', () => {
    mapped.cpu.writeCr3(0x80_0000)
    expect(read()).toBe(OLD)
    expect(() => read(PAGE + 0x1000n)).toThrow(PageFault)
  })

  test('goes with INVLPG', () => {
    mapped.cpu.invlpg(PAGE)
    expect(read()).toBe(NEW)
  })

  test('goes when CR4.PGE is cleared', () => {
    mapped.cpu.writeCr4(Cr4.PAE)
    expect(read()).toBe(NEW)
  })

  test('goes when SMEP is set', () => {
    mapped.cpu.writeCr4(Cr4.PAE | Cr4.PGE | Cr4.SMEP)
    expect(read()).toBe(NEW)
  })

  test('stays when CR4 is written without a change of PGE', () => {
    mapped.cpu.writeCr4(Cr4.PAE | Cr4.PGE)
    expect(read()).toBe(OLD)
  })
})

test('the global flag means nothing while CR4.PGE is off', () => {
  remap(OLD, { global: true })
  read()
  remap(NEW, { global: true })
  mapped.cpu.writeCr3(mapped.cpu.cr3)
  expect(read()).toBe(NEW)
})

test('setting CR4.PGE drops what was cached before', () => {
  remap(OLD)
  read()
  remap(NEW)
  mapped.cpu.writeCr4(Cr4.PAE | Cr4.PGE)
  expect(read()).toBe(NEW)
})

describe.each([
  ['2 MiB', PAGE_SIZE_2M],
  ['1 GiB', PAGE_SIZE_1G],
] as const)('a page of %s', (_, size) => {
  const start = 0x4000_0000n
  const moved = 2 * PAGE_SIZE_1G

  beforeEach(() => {
    const options = { largestPage: size, replace: true }
    mapped.tables.mapRange(virt(start), phys(PAGE_SIZE_1G), size, options)
    read(start + 0x1234n)
    read(start + BigInt(size) - 1n)
    mapped.tables.mapRange(virt(start), phys(moved), size, options)
  })

  test('goes as a whole with INVLPG of an address in it that was never used', () => {
    mapped.cpu.invlpg(start + 0x10_0000n)
    expect(read(start + 0x1234n)).toBe(moved + 0x1234)
    expect(read(start + BigInt(size) - 1n)).toBe(moved + size - 1)
  })

  test('survives INVLPG of its neighbours', () => {
    mapped.cpu.invlpg(start - 1n)
    mapped.cpu.invlpg(start + BigInt(size))
    expect(read(start + 0x1234n)).toBe(PAGE_SIZE_1G + 0x1234)
    expect(read(start + BigInt(size) - 1n)).toBe(PAGE_SIZE_1G + size - 1)
  })
})

test('counters tell hits, misses, walks and flushes', () => {
  remap(OLD)
  const { cpu } = mapped
  const before = { ...cpu.counters }
  read()
  read()
  cpu.invlpg(PAGE)
  read()
  cpu.writeCr3(cpu.cr3)
  cpu.writeCr4(cpu.cr4 | Cr4.PGE)
  expect({
    hits: cpu.counters.tlbHits - before.tlbHits,
    misses: cpu.counters.tlbMisses - before.tlbMisses,
    references: cpu.counters.walkReferences - before.walkReferences,
    invlpgs: cpu.counters.invlpgs - before.invlpgs,
    cr3Writes: cpu.counters.cr3Writes - before.cr3Writes,
    globalFlushes: cpu.counters.globalFlushes - before.globalFlushes,
  }).toEqual({ hits: 1, misses: 2, references: 8, invlpgs: 1, cr3Writes: 1, globalFlushes: 1 })
})

test('a TLB keeps what was put in until it is taken out, however many entries compete', () => {
  // Pages that share their low bits fall into one slot of the front.
  const page = fc
    .tuple(fc.constantFrom(0n, 5n), fc.nat(6), fc.constantFrom(0n, 0xffff_8000_0000_0n))
    .map(([low, middle, top]) => (top | (BigInt(middle) << 10n) | low) << 12n)
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ insert: page, frame: fc.nat(1e6), global: fc.boolean() }) },
    { weight: 3, arbitrary: fc.record({ invalidate: page }) },
    { weight: 1, arbitrary: fc.constant('flushNonGlobal' as const) },
    { weight: 1, arbitrary: fc.constant('flushAll' as const) },
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const tlb = new Tlb()
      const model = new Map<bigint, TlbEntry>()
      for (const action of steps) {
        if (action === 'flushAll') {
          tlb.flushAll()
          model.clear()
        } else if (action === 'flushNonGlobal') {
          tlb.flushNonGlobal()
          for (const [key, entry] of model) if (!entry.global) model.delete(key)
        } else if ('invalidate' in action) {
          tlb.invalidatePage(action.invalidate)
          model.delete(action.invalidate)
        } else {
          const { insert, frame, global } = action
          const entry = {
            frame,
            rights: 3,
            dirty: false,
            global,
            pageFrames: 1,
            patIndex: 5,
            epoch: 0,
          }
          const [high, low] = [Number(insert >> 32n) | 0, Number(insert & 0xffff_ffffn) | 0]
          tlb.insert(high, low, entry)
          model.set(insert, entry)
        }
        for (const [address, entry] of model) expect(tlb.peek(address)).toEqual(entry)
        expect(tlb.size).toBe(model.size)
      }
    }),
  )
})
