// Rules about what translations a call found and left: those that the TLB alone still had, and pages of the wrong privilege.
import { Cr4, phys, virt } from '@trapdoor/core'
import type { PageTableStrategy, StrategyDefinition } from '@trapdoor/kernel'
import { isRuntime, MemoryAttribute } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { oneToOne } from './one-to-one.ts'
import { findingOf, play, type Play } from './played.ts'

/** The strategy that does everything right, with something changed. */
function sinner(change: (right: PageTableStrategy) => PageTableStrategy): StrategyDefinition {
  const options = Object.fromEntries(
    Object.entries(oneToOne.options!).map(([name, option]) => [name, option.default]),
  )
  return {
    ...oneToOne,
    name: 'sinner',
    options: {},
    create: () => change(oneToOne.create(options)),
  }
}

const playSinner = (
  change: Parameters<typeof sinner>[0],
  rest: Play = {},
): ReturnType<typeof play> => play({ ...rest, strategy: 'sinner', strategies: [sinner(change)] })

/** A page of runtime data, which GetTime reads. */
const DATA = 0x910_0000n
const reads: Play['habit'] = {
  beforeService: (call) => {
    call.read64(DATA)
    return undefined
  },
}

/** The process has memory of its own at the firmware's address, and has just used it. */
const withProcess = (global: boolean): ReturnType<typeof play> =>
  playSinner(
    (right) => ({
      ...right,
      enter: (call) => {
        const { cpu, kernel } = call
        const { tables } = kernel.tasks[cpu.id]!
        tables.mapRange(virt(DATA), phys(0x10_0000), 4096, { global, replace: true })
        cpu.read64(DATA)
        right.enter!(call)
      },
    }),
    { habit: reads },
  )

describe('H9', () => {
  test('sees a call that finds the translation of another table', async () => {
    const trace = await withProcess(true)
    expect(trace.result.outcome).toBe('corrupt')
    expect(findingOf(trace, 'H9')).toMatchObject({
      message: 'inside GetTime CPU 0 translates 0x0000000009100000 by what other tables say',
      physical: { address: '0x0000000000100000' },
    })
  })

  test('says nothing where the write to CR3 has taken it away', async () => {
    expect(findingOf(await withProcess(false), 'H9')).toBeUndefined()
  })
})

/** Firmware's pages are the user's, on a CPU that has both protections. */
const withUserPages = (protection: number): ReturnType<typeof play> =>
  playSinner(
    (right) => ({
      ...right,
      setup: (kernel) => {
        right.setup!(kernel)
        const { root } = kernel.roots.find(({ name }) => name === 'one_to_one')!
        const { memory } = kernel.machine
        // All leaves below the first entry of the root get U/S.
        const tablesOf = (table: number): number[] =>
          Array.from({ length: 512 }, (_, index) => memory.read64(table + index * 8))
            .filter((entry) => (entry & 1n) !== 0n)
            .map((entry) => Number(entry & 0x000f_ffff_ffff_f000n))
        const top = Number(memory.read64(root) & 0x000f_ffff_ffff_f000n)
        for (const leaves of tablesOf(top).flatMap(tablesOf)) {
          for (let at = leaves; at < leaves + 4096; at += 8) {
            const entry = memory.read64(at)
            if ((entry & 1n) !== 0n) memory.write64(at, entry | 4n)
          }
        }
      },
      enter: (call) => {
        right.enter!(call)
        call.cpu.writeCr4(call.cpu.cr4 | protection)
      },
    }),
    { cpu: 'arrow-lake' },
  )

describe('H11', () => {
  test('knows why a supervisor cannot run what is the user’s', async () => {
    const trace = await withUserPages(Cr4.SMEP)
    expect(trace.result.outcome).toBe('fault')
    expect(trace.result.findings[0]).toMatchObject({
      rule: 'H11',
      message: expect.stringMatching(
        /^the kernel runs code at 0x\w+ inside GetTime, which is a user/,
      ),
    })
  })

  test('knows why it cannot read it', async () => {
    const trace = await withUserPages(Cr4.SMAP)
    expect(trace.result.findings[0]).toMatchObject({
      rule: 'H11',
      message: expect.stringMatching(
        /^PcRtc touches memory at 0x\w+ inside GetTime, .*CR4\.SMAP is set$/,
      ),
    })
  })

  test('has nothing to say without these, but where somebody looks at the tables', async () => {
    const trace = await withUserPages(0)
    expect(trace.result.outcome).toBe('ok')
    expect(findingOf(trace, 'H11')).toBeUndefined()
  })
})

const lookAtTables: NonNullable<Play['run']> = (context) => {
  context.boot()
  context.call(context.services().getTime())
  context.inspectTables()
}

/** The kernel has two pages of an uncached region, the first one cached; the call's tables have `mapped` of them, uncached. */
const withPages = (mapped: readonly number[]): ReturnType<typeof play> =>
  playSinner(
    (right) => ({
      ...right,
      setup: (kernel) => {
        right.setup!(kernel)
        const region = kernel.requireEfi.memoryMap.find(
          (each) => isRuntime(each) && (each.attribute & MemoryAttribute.WB) === 0n,
        )!.physicalStart
        const { swapper } = kernel.tables
        const first = kernel.tables.directMapAddress(region)
        swapper.mapRange(first, phys(region), 4096, { replace: true })
        const { root } = kernel.roots.find(({ name }) => name === 'one_to_one')!
        const { memory } = kernel.machine
        let table: number = root
        for (const shift of [39n, 30n, 21n]) {
          const entry = memory.read64(table + Number((BigInt(region) >> shift) & 511n) * 8)
          table = Number(entry & 0x000f_ffff_ffff_f000n)
        }
        const index = Number((BigInt(region) >> 12n) & 511n)
        for (let page = 0; page < 16; page++) {
          if (!mapped.includes(page)) memory.write64(table + (index + page) * 8, 0n)
        }
      },
    }),
    { map: 'uncached-data', run: lookAtTables },
  )

describe('H7', () => {
  test('sees a page that is cached here and uncached there', async () => {
    expect(findingOf(await withPages([0, 1]), 'H7')?.message).toBe(
      '0x0000000009300000 is WB in swapper_pg_dir and UC in one_to_one',
    )
  })

  test('compares pages, not regions: a cached page and an uncached one beside it are no conflict', async () => {
    expect(findingOf(await withPages([1]), 'H7')).toBeUndefined()
  })
})
