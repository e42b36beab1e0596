import { phys, virt } from '@trapdoor/core'
import { EfiStatus, isRuntime, MemoryAttribute, MemoryType } from '@trapdoor/uefi'
import type { ScenarioContext } from '@trapdoor/harness'
import {
  type EfiHandOver,
  KernelPanic,
  LAYOUT_2_6_26,
  type PageTableStrategy,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import { describe, expect, test } from 'vitest'
import { bootAndCall, play, type Play } from './played.ts'
import { directMap } from './one-to-one.ts'

/** What a case died of: the first finding. */
async function deathOf(
  playing: Play,
): Promise<{ rule: string; message: string; kernel: string; phase: string; outcome: string }> {
  const { result } = await play(playing)
  const { rule, message, kernel, phase } = result.findings[0]!
  return { rule, message, kernel, phase, outcome: result.outcome }
}

type Habit = NonNullable<Play['habit']>

/** GetTime reads eight bytes at an address. */
const reading = (address: bigint): Habit => ({
  beforeService: (call) => {
    call.read64(address)
    return undefined
  },
})

const kexecTo =
  (choice: Parameters<ScenarioContext['kexec']>[0]): NonNullable<Play['run']> =>
  (context) => {
    context.boot({ commandLine: 'virtefi' })
    context.kexec(choice)
    context.call(context.services().getTime())
  }

/** A strategy whose page tables, pages of 4 KiB for 512 GiB, are more than the machine has memory for. */
const greedy: StrategyDefinition = {
  name: 'greedy',
  title: 'maps all that there could be',
  mode: 'physical',
  sources: ['this test'],
  create: () => ({
    setup: (kernel) => {
      const table = kernel.newPageTable('greedy')
      table.mapRange(virt(0), phys(0), 2 ** 39, { executable: true })
    },
  }),
}

function panicking(): PageTableStrategy {
  return {
    setup: () => {
      throw new KernelPanic('something else')
    },
  }
}

describe('H3', () => {
  test('knows a kernel that has no memory for the firmware’s page tables', async () => {
    const death = await deathOf({ strategy: 'greedy', strategies: [greedy] })
    expect(death).toMatchObject({
      rule: 'H3',
      outcome: 'fault',
      phase: 'efi',
      message: 'first kernel runs out of memory while it sets up the runtime services',
    })
  })

  test.each([
    'Unable to allocate EFI runtime stack < 4GB',
    'unable to handle kernel NULL pointer dereference (memcpy to new_memmap)',
  ])('knows what kernels stop with for want of memory: %s', async (message) => {
    const stopping = (): PageTableStrategy => ({
      setup: () => {
        throw new KernelPanic(message)
      },
    })
    const death = await deathOf({
      strategy: 'greedy',
      strategies: [{ ...greedy, create: stopping }],
    })
    expect(death.rule).toBe('H3')
    expect(death.message).toContain(message)
  })

  test('is not asked about other panics of that phase', async () => {
    const death = await deathOf({
      strategy: 'greedy',
      strategies: [{ ...greedy, create: panicking }],
    })
    expect(death.rule).not.toBe('H3')
  })
})

describe('H6', () => {
  test('knows firmware that needs page 0', async () => {
    expect(await deathOf({ habit: reading(0x470n) })).toMatchObject({
      rule: 'H6',
      outcome: 'fault',
      message: 'PcRtc touches page 0 inside GetTime, and page 0 is not mapped',
    })
  })

  test('is not asked where page 0 is there', async () => {
    const { result } = await play({
      strategy: 'one-to-one:page0=mapped',
      habit: reading(0x470n),
    })
    expect(result.outcome).toBe('ok')
  })

  test('does not take the page after for page 0', async () => {
    expect((await deathOf({ habit: reading(0x1000n) })).rule).not.toBe('H6')
  })
})

describe('H8', () => {
  test('knows a kernel that reads the tables which the one before has converted', async () => {
    expect(await deathOf({ strategy: 'legacy-virtual', run: kexecTo({}) })).toMatchObject({
      rule: 'H8',
      kernel: 'second kernel',
      phase: 'efi_init',
      message:
        'second kernel dies in efi_init() reading the system table that SetVirtualAddressMap has converted',
    })
  })

  test('knows one that survives that and falls over a converted SMBIOS pointer', async () => {
    const death = await deathOf({
      habit: {
        // Nothing is converted but the second entry of the configuration table, which firmware must leave alone.
        setVirtualAddressMap: (call) => {
          const systemTable = call.pointer('gST')
          const entries = call.read64(systemTable + 0x68n)
          const table = call.read64(systemTable + 0x70n)
          for (let entry = table; entry < table + entries * 24n; entry += 24n) {
            call.write64(entry + 16n, call.read64(entry + 16n) + 0xffff_8800_0000_0000n)
          }
          return EfiStatus.SUCCESS
        },
      },
      run: kexecTo({}),
    })
    expect(death).toMatchObject({
      rule: 'H8',
      phase: 'efi_init',
      message:
        'second kernel dies in dmi_scan_machine() at the address of a configuration table that SetVirtualAddressMap has converted',
    })
  })

  test('knows a kernel that panics after an earlier one has converted the firmware', async () => {
    const passing: StrategyDefinition = {
      ...directMap,
      name: 'passing',
      create: (options) => ({
        ...directMap.create(options),
        handOver: ({ requireEfi: efi }): EfiHandOver => ({
          vendor: Number(efi.vendorAddress),
          runtime: Number(efi.runtimeAddress),
          configurationTable: Number(efi.configurationTableAddress),
          memoryMap: efi.memoryMap.filter(isRuntime),
        }),
        takeOver: () => {
          throw new KernelPanic('EFI call to SetVirtualAddressMap() failed! (EFI_UNSUPPORTED)')
        },
      }),
    }
    expect(
      await deathOf({ strategy: 'passing', strategies: [passing], run: kexecTo({}) }),
    ).toMatchObject({
      rule: 'H8',
      message: 'second kernel panics: EFI call to SetVirtualAddressMap() failed! (EFI_UNSUPPORTED)',
    })
  })

  test('knows firmware that forgot to convert a pointer', async () => {
    expect(
      await deathOf({ strategy: 'legacy-virtual', habit: reading(0x910_0000n) }),
    ).toMatchObject({
      rule: 'H8',
      message:
        'PcRtc uses the physical address 0x0000000009100000 inside GetTime, after SetVirtualAddressMap',
    })
  })

  test('leaves memory that no runtime region announces to others, in virtual mode too', async () => {
    const death = await deathOf({ strategy: 'legacy-virtual', habit: reading(0xfed0_0000n) })
    expect(death.rule).toBe('H19')
  })

  test('knows a pointer that only an address-change event would have set', async () => {
    expect(await deathOf({ habit: reading(0xafaf_afaf_afaf_afafn) })).toMatchObject({
      rule: 'H8',
      message:
        'PcRtc follows a pointer that holds 0xafafafafafafafaf inside GetTime, where nobody has called SetVirtualAddressMap',
    })
  })

  test('knows an address that an earlier kernel gave, and this one does not map', async () => {
    const death = await deathOf({
      habit: {
        // The tables stay physical; the driver keeps the address that it was told.
        powerOn: (setup) => setup.pointer('PcRtc', 'told', 0x910_0000, { convert: false }),
        setVirtualAddressMap: (call) => {
          call.note('keeps the tables physical')
          return EfiStatus.SUCCESS
        },
        beforeService: (call) => {
          if (call.service === 'GetTime') {
            call.read64(call.pointer('told') + 0xffff_8800_0000_0000n)
          }
          return undefined
        },
      },
      run: kexecTo({ layout: LAYOUT_2_6_26 }),
    })
    expect(death).toMatchObject({
      rule: 'H8',
      kernel: 'second kernel',
      phase: 'running',
      message:
        'PcRtc uses 0xffff880009100000 inside GetTime, an address that an earlier kernel gave it',
    })
  })

  test('has nothing to say of kexec from a kernel that left firmware physical', async () => {
    const { result } = await play({
      run: (context) => {
        bootAndCall(context)
        context.kexec()
        context.call(context.services().getTime())
      },
    })
    expect(result.findings).toEqual([])
    expect(result.outcome).toBe('ok')
  })
})

describe('H10', () => {
  test('knows code that cannot be executed, and what the map calls it', async () => {
    expect(await deathOf({ strategy: 'one-to-one:rights=data' })).toMatchObject({
      rule: 'H10',
      message: expect.stringMatching(
        /RuntimeServicesCode inside GetTime, which is mapped without execution rights/,
      ),
    })
  })

  test('knows what a write reaches whose translation is in the TLB already', async () => {
    const death = await deathOf({
      habit: {
        beforeService: (call) => {
          if (call.service === 'GetTime') call.write64(call.imageBase, call.read64(call.imageBase))
          return undefined
        },
      },
    })
    expect(death).toMatchObject({
      rule: 'H10',
      message: expect.stringMatching(
        /^PcRtc writes to RuntimeServicesCode at 0x\w+ inside GetTime/,
      ),
    })
  })

  test('does not take a read for an execution', async () => {
    expect((await deathOf({ habit: reading(0xfed0_0000n) })).rule).not.toBe('H10')
  })
})

/** A call with arguments in vmalloc space that no TLB holds any more. */
const inVmalloc = (context: ScenarioContext): void => {
  context.boot()
  const prepared = context.services('vmalloc').getTime()
  context.kernel.tables.flushAll()
  context.call(prepared)
}

describe('H16', () => {
  test('knows an argument that the kernel maps and the call’s tables do not', async () => {
    const death = await deathOf({ strategy: 'one-to-one:half=no-vmalloc', run: inVmalloc })
    expect(death.rule).toBe('H16')
    expect(death.message).toMatch(
      /^PcRtc reaches for 0xffffc9\w+ inside GetTime, which the kernel maps and the tables of the call do not$/,
    )
  })

  test('knows a pointer that was made a physical address of and is none', async () => {
    const death = await deathOf({ strategy: 'one-to-one:pointers=subtracted', run: inVmalloc })
    expect(death.rule).toBe('H16')
    expect(death.message).toMatch(
      /^GetTime gets argument 1 at 0x000041\w+, which the kernel has at 0x00000000\w+, and the page tables of the call nowhere$/,
    )
  })

  test('does not take what firmware reaches for elsewhere for such a pointer', async () => {
    const strategy = 'one-to-one:pointers=subtracted'
    const habit = reading(0xfed0_0000n)
    expect((await deathOf({ strategy, run: inVmalloc, habit })).rule).toBe('H19')
  })

  test('has nothing to say where the whole half is there', async () => {
    expect((await play({ run: inVmalloc })).result.findings).toEqual([])
  })

  test('leaves an address that the kernel does not map either to others', async () => {
    const death = await deathOf({ habit: reading(0xffff_ea00_0000_0000n) })
    expect(death.rule).toBe('H8')
  })
})

describe('EXC', () => {
  const jumping: Parameters<typeof deathOf>[0] = {
    habit: {
      beforeService: (call) => {
        if (call.service === 'GetTime') call.call(call.imageBase + 0x800n)
        return undefined
      },
    },
  }

  test('has what is left of deaths inside calls, but for page faults', async () => {
    expect(await deathOf(jumping)).toMatchObject({
      rule: 'EXC',
      message: expect.stringMatching(/^PcRtc raises #UD inside GetTime: no instruction at 0x/),
    })
    expect((await deathOf({ habit: reading(0xfed0_0000n) })).rule).toBe('H19')
  })
})

describe('H18', () => {
  test('knows firmware that goes on using boot-services memory', async () => {
    expect(await deathOf({ habit: reading(0x830_0000n) })).toMatchObject({
      rule: 'H18',
      message: 'PcRtc uses BootServicesData at 0x0000000008300000 inside GetTime',
    })
  })

  test('knows firmware that follows what somebody else has written there', async () => {
    const death = await deathOf({
      strategy: 'one-to-one:regions=all',
      habit: {
        beforeService: (call) => {
          call.read64(call.read64(0x830_0000n))
          return undefined
        },
      },
    })
    expect(death).toMatchObject({
      rule: 'H18',
      message: expect.stringMatching(
        /follows a pointer that it found at 0x0000000008300000 inside GetTime.*page cache/,
      ),
    })
  })
})

describe('H19', () => {
  test('knows a device that the map does not list', async () => {
    expect(await deathOf({ habit: reading(0xfed1_c000n) })).toMatchObject({
      rule: 'H19',
      message:
        'PcRtc touches 0x00000000fed1c000 inside GetTime, which is not in the memory map at all',
    })
  })

  test('knows memory that the map lists as something else', async () => {
    expect(await deathOf({ habit: reading(0x901_0000n) })).toMatchObject({
      rule: 'H19',
      message:
        'PcRtc touches 0x0000000009010000 inside GetTime, which the map calls ACPIReclaimMemory with UC|WC|WT|WB',
    })
  })

  test('knows a kernel that stops for want of a runtime region with the system table', async () => {
    const death = await deathOf({
      strategy: 'legacy-virtual',
      habit: {
        memoryMap: (map) =>
          map.map((each) =>
            each.type === MemoryType.RuntimeServicesData
              ? Object.assign({}, each, { attribute: each.attribute & ~MemoryAttribute.RUNTIME })
              : each,
          ),
      },
    })
    expect(death).toMatchObject({
      rule: 'H19',
      phase: 'efi',
      message:
        'first kernel stops: no runtime region holds the EFI system table, which is in RuntimeServicesData without the RUNTIME attribute',
    })
  })

  test('has nothing to say where the call’s tables have all of memory', async () => {
    const { result } = await play({
      strategy: 'one-to-one:regions=all',
      habit: reading(0x901_0000n),
    })
    expect(result.findings.map(({ rule }) => rule)).not.toContain('H19')
    expect(result.outcome).toBe('ok')
  })
})

test('a death that no rule knows is still a finding', async () => {
  const { result } = await play({
    run: (context) => {
      context.boot()
      context.kernel.bootCpu.read64(0x1234n)
    },
  })
  expect(result.findings).toMatchObject([
    { rule: 'died', message: 'read at 0x0000000000001234: supervisor read, page not present' },
  ])
})
