import { describe, expect, test } from 'vitest'
import { play, tablesAfterBoot } from './played.ts'

/** efi_pgd and the kernel's own tables by state of the patch. */
const [a, b, c] = await Promise.all(
  ['A', 'B', 'C'].map(async (state) => {
    const named = await tablesAfterBoot(`state=${state}`)
    return { efi: named('efi_pgd'), kernel: named('swapper_pg_dir') }
  }),
)
const STATES = { A: a!, B: b!, C: c! } as const

/** How efi_pgd maps an address: not at all, with execution, without. */
function rights(state: keyof typeof STATES, address: number): '-' | 'X' | 'NX' {
  const found = STATES[state].efi.inspect(BigInt(address))
  if (found.status !== 'mapped') return '-'
  expect(found.physical).toBe(address)
  return found.executable ? 'X' : 'NX'
}

/** What `type & 5` and `type & 6` make of an enumeration: for each type the first byte of its region, and what becomes of it. */
const TYPE_BITS = [
  { type: 0, name: 'reserved', at: 0x900_0000, becomes: '-' },
  { type: 1, name: 'loader code', at: 0x901_0000, becomes: 'X' },
  { type: 2, name: 'loader data', at: 0x902_0000, becomes: 'NX' },
  { type: 3, name: 'boot-services code', at: 0x850_0000, becomes: 'X' },
  { type: 4, name: 'boot-services data', at: 0x800_0000, becomes: 'X' },
  { type: 5, name: 'runtime code', at: 0x910_0000, becomes: 'X' },
  { type: 6, name: 'runtime data', at: 0x921_0000, becomes: 'X' },
  { type: 7, name: 'conventional', at: 0xa00_0000, becomes: 'X' },
  { type: 8, name: 'unusable', at: 0x908_0000, becomes: '-' },
  { type: 9, name: 'ACPI reclaim', at: 0x909_0000, becomes: 'X' },
  { type: 10, name: 'ACPI NVS', at: 0x90a_0000, becomes: 'NX' },
  { type: 11, name: 'MMIO', at: 0x90b_0000, becomes: 'X' },
  { type: 12, name: 'MMIO ports', at: 0x90c_0000, becomes: 'X' },
  { type: 13, name: 'PAL code', at: 0x90d_0000, becomes: 'X' },
] as const

describe.each(['A', 'B'] as const)('state %s', (state) => {
  test.each(TYPE_BITS)('maps type $type ($name) as $becomes', ({ at, becomes }) => {
    expect(rights(state, at)).toBe(becomes)
    expect(rights(state, at + 0x3fff)).toBe(becomes)
  })

  test('maps page 0, where the map has anything but reserved or unusable memory', () => {
    expect(rights(state, 0)).toBe('X')
  })

  test('maps everything cached, devices and uncached memory too', () => {
    for (const address of [0x90b_0000n, 0xffe0_0000n, 0x930_0000n, 0xa00_0000n]) {
      expect(STATES[state].efi.inspect(address)).toMatchObject({ patIndex: 0 })
    }
  })
})

describe('state C', () => {
  test('maps what has the RUNTIME attribute, and executes what is runtime code', () => {
    expect(rights('C', 0x910_0000)).toBe('X')
    expect(rights('C', 0x920_0000)).toBe('X')
    expect(rights('C', 0x921_0000)).toBe('NX')
    expect(rights('C', 0x930_0000)).toBe('NX')
    expect(rights('C', 0xffe0_0000)).toBe('NX')
  })

  test.each(TYPE_BITS.filter(({ type }) => type !== 5 && type !== 6))(
    'leaves type $type ($name) out',
    ({ at }) => {
      expect(rights('C', at)).toBe('-')
    },
  )

  test('maps UC- what cannot be cached, and the rest cached', () => {
    const { efi } = STATES.C
    expect(efi.inspect(0x930_0000n)).toMatchObject({ patIndex: 2 })
    expect(efi.inspect(0xffe0_0000n)).toMatchObject({ patIndex: 2 })
    expect(efi.inspect(0x921_0000n)).toMatchObject({ patIndex: 0 })
  })

  test('does not tell the direct map of it: the same memory is cached there', () => {
    expect(STATES.C.kernel.inspect(0xffff_8800_0930_0000n)).toMatchObject({
      physical: 0x930_0000,
      patIndex: 0,
    })
  })
})

describe('the loop that runs to the last page inclusive', () => {
  test('maps one page too many, with the rights of the region before it', () => {
    expect([rights('A', 0x901_4000), rights('A', 0x901_5000)]).toEqual(['X', '-'])
    expect([rights('B', 0x902_4000), rights('B', 0x902_5000)]).toEqual(['NX', '-'])
    expect([rights('C', 0x927_0000), rights('C', 0x927_1000)]).toEqual(['NX', '-'])
  })

  test('is made good by the region behind, where that comes later in the map', () => {
    // Code up to 0x9210000, then the data that begins there.
    expect(rights('C', 0x921_0000)).toBe('NX')
  })

  test('makes the first page of data executable, where that came earlier in the map', () => {
    // Data from 0x9140000 on, then the code that ends there.
    expect([rights('C', 0x914_0000), rights('C', 0x914_1000)]).toEqual(['X', 'NX'])
  })
})

describe('every state', () => {
  test.each(['A', 'B', 'C'] as const)(
    '%s has global 4 KiB leaves that a user cannot reach',
    (state) => {
      const low = STATES[state].efi.ranges.filter(({ start }) => start < 2n ** 47n)
      expect(low.length).toBeGreaterThan(0)
      for (const range of low) {
        expect(range).toMatchObject({ pageSize: 4096, global: true, user: false, writable: true })
      }
    },
  )

  test.each(['A', 'B', 'C'] as const)('%s has the direct map and the kernel’s text', (state) => {
    for (const address of [0xffff_8800_0500_0000n, 0xffff_ffff_8100_0000n]) {
      const inKernel = STATES[state].kernel.inspect(address)
      expect(STATES[state].efi.inspect(address)).toMatchObject({
        status: 'mapped',
        physical: inKernel.status === 'mapped' ? inKernel.physical : undefined,
      })
    }
  })

  test.each([
    { state: 'A', status: 'not-present' },
    { state: 'B', status: 'mapped' },
    { state: 'C', status: 'mapped' },
  ] as const)('$state: vmalloc space (PML4 entry 402) is $status', ({ state, status }) => {
    const { efi, kernel } = STATES[state]
    const range = kernel.ranges.find(({ start }) => start >> 39n === 0xffff_c900_0000_0000n >> 39n)
    expect(efi.inspect(range!.start).status).toBe(status)
  })

  test('is what the firmware runs under, whose calls cost two writes to CR3 and no flush', async () => {
    expect(STATES.C.efi.usedForCalls).toBe(true)
    expect(STATES.C.kernel.usedForCalls).toBe(false)
    const { result } = await play('state=C', {
      run: (context) => {
        context.boot()
        context.call(context.services().getTime())
        context.inspectTables()
      },
    })
    expect(result.cost?.perCall).toMatchObject({ cr3Writes: 2, globalFlushes: 0 })
  })
})

describe('page 0 in state C', () => {
  test('is not mapped by itself', () => {
    expect(rights('C', 0)).toBe('-')
  })

  test('is mapped 1:1 without execution where the option says so, and not the page behind', async () => {
    const efi = (await tablesAfterBoot('state=C,page0=mapped'))('efi_pgd')
    expect(efi.inspect(0x472n)).toMatchObject({
      physical: 0x472,
      writable: true,
      executable: false,
      global: true,
    })
    expect(efi.inspect(0x1000n).status).toBe('not-present')
  })
})

/** The roots that two CPUs are on after calls that overlap: in, in, out, out. Callers have one lock for the clock and another for variables. */
async function rootsAfterOverlap(options: string): Promise<{ own: number[]; after: number[] }> {
  let own: number[] = []
  let after: number[] = []
  await play(options, {
    cpus: 2,
    run: (context) => {
      context.boot()
      const { cpus } = context.machine
      own = cpus.map(({ cr3 }) => cr3)
      const calls = [
        context.services('stack', 0).getTime().call!,
        context.services('stack', 1).getNextVariableName().call!,
      ]
      for (const call of calls) call.enter()
      for (const call of calls) call.execute()
      for (const call of calls) call.leave()
      after = cpus.map(({ cr3 }) => cr3)
    },
  })
  return { own, after }
}

describe('the save area', () => {
  test('that each CPU has gives it its own CR3 back', async () => {
    const { own, after } = await rootsAfterOverlap('saveArea=perCpu')
    expect(after).toEqual(own)
    expect(own[0]).not.toBe(own[1])
  })

  test('that all share gives the first CPU the CR3 of the second', async () => {
    const { own, after } = await rootsAfterOverlap('saveArea=static')
    expect(after).toEqual([own[1], own[1]])
  })
})

test('interrupts are off inside, and as they were after', async () => {
  const seen: boolean[] = []
  await play('state=C', {
    run: (context) => {
      context.boot()
      const { bootCpu } = context.machine
      for (const interruptFlag of [true, false]) {
        bootCpu.interruptFlag = interruptFlag
        const call = context.services().getTime().call!
        call.enter()
        seen.push(bootCpu.interruptFlag)
        call.execute()
        call.leave()
        seen.push(bootCpu.interruptFlag)
      }
    },
  })
  expect(seen).toEqual([false, true, false, false])
})

test('SetVirtualAddressMap is never called', async () => {
  const { events } = await play('state=C', {
    run: (context) => {
      context.boot()
      context.call(context.services().getTime())
    },
  })
  const called = events.flatMap((event) => (event.kind === 'call' ? [event.name] : []))
  expect(called).toEqual(expect.arrayContaining(['ExitBootServices', 'GetTime']))
  expect(called).not.toContain('SetVirtualAddressMap')
})
