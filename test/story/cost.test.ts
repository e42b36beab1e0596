// What a strategy costs and exposes, on a machine that is small enough to count by hand.
import { PAGE_SIZE, type PageTableBuilder, phys, virt } from '@trapdoor/core'
import type { StrategyCost } from '@trapdoor/harness'
import type { Kernel, PageTableStrategy, StrategyDefinition } from '@trapdoor/kernel'
import { EfiStatus, isRuntime, MemoryAttribute, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { play } from './cases.ts'

/** 0x60 pages of runtime data, 0x20 of code, 16 of uncached data and 2 MiB of flash; 1 page and 4 MiB of boot services. */
const MAP = `efi: EFI v2.70 by Tiny Firmware
efi: mem00: [Boot Code   |   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000000000000-0x0000000000000fff] (0MB)
efi: mem01: [Conventional|   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000000001000-0x000000000009ffff] (0MB)
efi: mem02: [Conventional|   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000000100000-0x0000000007ffffff] (127MB)
efi: mem03: [Boot Data   |   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000008000000-0x00000000083fffff] (4MB)
efi: mem04: [Reserved    |   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000009000000-0x0000000009003fff] (0MB)
efi: mem05: [ACPI Reclaim|   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000009010000-0x0000000009013fff] (0MB)
efi: mem06: [Runtime Data|RUN|  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000009100000-0x000000000915ffff] (0MB)
efi: mem07: [Runtime Code|RUN|  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000009200000-0x000000000921ffff] (0MB)
efi: mem08: [Runtime Data|RUN|  |  |  |  |  |   |  |  |  |UC] range=[0x0000000009300000-0x000000000930ffff] (0MB)
efi: mem09: [Conventional|   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x000000000a000000-0x000000000ff96fff] (95MB)
efi: mem10: [MMIO        |RUN|  |  |  |  |  |   |  |  |  |UC] range=[0x00000000ffe00000-0x00000000ffffffff] (2MB)
e820: BIOS-provided physical RAM map:
`

/** In the code and the data that the map gives the firmware, behind what is in use there. */
const FUNCTION = 0x921_f000
const DATA = 0x915_e000n

/** Page tables with 4 KiB pages, and a clock of three reads in two pages. */
function counted(
  name: string,
  change: (kernel: Kernel, table: PageTableBuilder) => void = () => {},
  around: Pick<PageTableStrategy, 'enter' | 'leave'> = {},
): StrategyDefinition {
  return {
    name,
    title: 'a table to count',
    mode: 'physical',
    sources: ['this test'],
    create: () => {
      let table: PageTableBuilder | undefined
      return {
        setup: (kernel) => {
          table = kernel.newPageTable('counted')
          for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
            const { physicalStart: start } = region
            const isCode = region.type === MemoryType.RuntimeServicesCode
            table.mapRange(virt(start), phys(start), region.numberOfPages * PAGE_SIZE, {
              executable: isCode,
              writable: !isCode,
              cacheDisable: (region.attribute & MemoryAttribute.WB) === 0n,
            })
          }
          kernel.tables.copyRootEntries(table, 256, 512)
          const gate = kernel.machine.gates.bind({
            name: 'GetTime',
            image: 'counted',
            run: ({ cpu }) => {
              for (const at of [DATA, DATA + 0x1000n, DATA + 8n]) cpu.read64(at)
              return EfiStatus.SUCCESS
            },
          })
          kernel.machine.memory.write(FUNCTION, gate)
          change(kernel, table)
        },
        functionAddress: () => BigInt(FUNCTION),
        enter: (call) => {
          call.cpu.writeCr3(table!.root)
          around.enter?.(call)
        },
        leave: (call) => {
          around.leave?.(call)
          call.cpu.writeCr3(call.before.cr3)
        },
      }
    },
  }
}

/** The cost of a call that finds what the calls before it have left, under one strategy. */
function costOf(strategy: StrategyDefinition): StrategyCost {
  const { result } = play(
    `none/${strategy.name}/counting`,
    {
      name: 'counting',
      title: 'counts',
      steps: [
        {
          name: 'counts',
          run: (context) => {
            context.boot()
            context.priceOf(() => context.services('stack').getTime(), 1)
            context.call(context.services('stack').getTime())
            context.inspectTables()
          },
        },
      ],
    },
    {
      bytes: new TextEncoder().encode(MAP),
      plugins: [{ name: 'counted', apiVersion: 1, strategies: [strategy] }],
    },
  )
  expect(result.outcome).toBe('ok')
  return result.cost!
}

/** Below the first entry of the root: a PDPT, PDs of the first and the fourth GiB, PTs of 0x9000000, 0x9200000 and 0xffe00000; the root itself. */
const TABLE_PAGES = 1 + 1 + 2 + 3
const RUNTIME_BYTES = (0x60 + 0x20 + 0x10) * 4096 + 2 ** 21

describe('the price of tables', () => {
  test('counts their pages, and what they map for the firmware', () => {
    expect(costOf(counted('as-it-should-be'))).toMatchObject({
      tablePages: TABLE_PAGES,
      mappedBytes: RUNTIME_BYTES,
      writableExecutableBytes: 0,
      pageZeroMapped: false,
      bootServicesBytes: 0,
      // The direct map has the uncached data cached.
      conflictingTypeBytes: 0x10 * 4096,
    })
  })

  test('counts page 0 with its table, and as boot-services memory, which it is', () => {
    const cost = costOf(
      counted('with-page-0', (_, table) => {
        table.mapRange(virt(0), phys(0), PAGE_SIZE, { executable: true })
      }),
    )
    expect(cost).toMatchObject({
      tablePages: TABLE_PAGES + 1,
      mappedBytes: RUNTIME_BYTES + 4096,
      writableExecutableBytes: 4096,
      pageZeroMapped: true,
      bootServicesBytes: 4096,
    })
  })

  test('counts boot-services memory once, however often it is mapped', () => {
    const cost = costOf(
      counted('with-boot-services', (_, table) => {
        // Two PTs for 4 MiB; then a quarter of it again elsewhere, in a table of its own below the second GiB, with its PD.
        table.mapRange(virt(0x800_0000), phys(0x800_0000), 2 ** 22)
        table.mapRange(virt(0x4000_0000), phys(0x810_0000), 2 ** 20)
      }),
    )
    expect(cost).toMatchObject({
      tablePages: TABLE_PAGES + 2 + 2,
      mappedBytes: RUNTIME_BYTES + 2 ** 22 + 2 ** 20,
      bootServicesBytes: 2 ** 22,
    })
  })

  test('counts conflicts by pages, and none where the kernel gives way', () => {
    const cost = costOf(
      counted('uncached-everywhere', ({ tables }) => {
        tables.setMemoryUncached(tables.directMapAddress(0x930_0000), 0xc * 4096)
      }),
    )
    expect(cost.conflictingTypeBytes).toBe(4 * 4096)
  })

  test('counts a region once that is mapped where the firmware was told, and its old address too where that is mapped', () => {
    const both = costOf(
      counted('told', (kernel, table) => {
        const efi = kernel.requireEfi
        const base = 0xffff_ff00_0000_0000n
        efi.memoryMap = efi.memoryMap.map((region) =>
          region.type === MemoryType.RuntimeServicesCode
            ? { ...region, virtualStart: base }
            : region,
        )
        efi.virtualMode = true
        // The second half is not mapped: it does not count.
        table.mapRange(virt(base), phys(0x920_0000), 0x10 * 4096)
      }),
    )
    expect(both.mappedBytes).toBe(RUNTIME_BYTES + 0x10 * 4096)
  })
})

describe('the price of a call', () => {
  test('is what the CPU did: two writes to CR3, three walks, and the entries that they read', () => {
    // Nothing but global translations survives the switch. The fetch reads four entries; the first datum finds PML4E and PDPTE in the paging-structure caches and reads PDE and PTE, the second
    // page a PTE alone, the third read nothing. The stack is the direct map's, which is global.
    expect(costOf(counted('as-it-should-be')).price).toEqual({
      times: 1,
      cr3Writes: 2,
      globalFlushes: 0,
      tlbMisses: 3,
      walkReferences: 4 + 2 + 1,
    })
  })

  test('has the walks of the stack in it where everything was flushed', () => {
    const { price } = costOf(
      counted('flushing', () => {}, {
        enter: ({ cpu }) => {
          cpu.writeCr4(cpu.cr4 & ~0x80)
          cpu.writeCr4(cpu.cr4 | 0x80)
        },
      }),
    )
    // PGE off and on again; the return address goes to the direct map's 2 MiB pages (or 1 GiB: PML4E, PDPTE), in another entry of the root.
    expect(price).toMatchObject({ cr3Writes: 2, globalFlushes: 2, tlbMisses: 4 })
    expect(price!.walkReferences).toBeGreaterThanOrEqual(7 + 2)
    expect(price!.walkReferences).toBeLessThanOrEqual(7 + 4)
  })

  test('is nothing but the reads where all stays in the TLB', () => {
    const { price } = costOf({
      ...counted('global'),
      create: () => {
        const right = counted('global', (kernel) => {
          // In the process's own tables, for as long as they live.
          for (const at of [FUNCTION, Number(DATA), Number(DATA) + 0x1000]) {
            kernel.tables.swapper.mapRange(virt(at), phys(at), PAGE_SIZE, {
              executable: true,
              global: true,
            })
          }
        }).create({})
        return {
          ...right,
          enter: ({ cpu, kernel }) => {
            const { tables } = kernel.tasks[cpu.id]!
            tables.setRootEntry(0, kernel.tables.swapper.rootEntry(0))
          },
          leave: () => {},
        }
      },
    })
    expect(price).toEqual({
      times: 1,
      cr3Writes: 0,
      globalFlushes: 0,
      tlbMisses: 0,
      walkReferences: 0,
    })
  })
})
