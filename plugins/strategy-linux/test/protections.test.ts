// What firmware says of its own code, and what kernels make of it.
import type { Plugin } from '@trapdoor/harness'
import { Guid, isRuntime, MemoryAttribute, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { boot, inEfiTables, play } from './machine.ts'

type Hooks = NonNullable<Plugin['quirks']>[number]['hooks']

function firmwareWith(hooks: Hooks): { plugins: Plugin[]; quirk: string } {
  const quirk = { id: 'T1', name: 'test', title: 'a test', sources: ['a test'], hooks }
  return { plugins: [{ name: 'firmware', apiVersion: 1, quirks: [quirk] }], quirk: 'T1' }
}

/** The properties table, with EFI_PROPERTIES_RUNTIME_MEMORY_PROTECTION_NON_EXECUTABLE_PE_DATA. */
const claimsSplitImages: NonNullable<Hooks['powerOn']> = (setup) => {
  const table = setup.allocate({ type: MemoryType.BootServicesData, pages: 1, name: 'properties' })
  setup.write64(table, 0x10_0001_0000n)
  setup.write64(table + 8, 1n)
  setup.setConfigTable(Guid.PROPERTIES_TABLE, table)
}

/** Images of two pages, code and data, as descriptors of their own. */
function splitImages(map: readonly MemoryDescriptor[]): MemoryDescriptor[] {
  return map.flatMap((region) => {
    if (region.type !== MemoryType.RuntimeServicesCode) return [region]
    return Array.from({ length: region.numberOfPages }, (_, page) => ({
      ...region,
      physicalStart: region.physicalStart + page * 4096,
      numberOfPages: 1,
      ...(page % 2 === 0
        ? { attribute: region.attribute | MemoryAttribute.RO }
        : {
            type: MemoryType.RuntimeServicesData,
            attribute: region.attribute | MemoryAttribute.XP,
          }),
    }))
  })
}

describe('the properties table', () => {
  test('makes code read-only and data not executable, where there is no memory attributes table', async () => {
    const { kernels, result } = await play('linux-4.14', boot, {
      ...firmwareWith({
        powerOn: (setup) => {
          claimsSplitImages(setup)
          setup.reportMap(splitImages)
        },
        memoryAttributes: () => [],
      }),
    })
    expect(result.outcome).toBe('ok')
    const regions = kernels[0]!.requireEfi.memoryMap.filter(isRuntime)
    const rights = (type: number): unknown =>
      regions
        .flatMap((region) =>
          region.type === type ? [BigInt(region.physicalStart), region.virtualStart] : [],
        )
        .map((address) => inEfiTables(kernels[0]!, address))
    expect(rights(MemoryType.RuntimeServicesCode)).toMatchObject(
      expect.arrayContaining([expect.objectContaining({ writable: false, executable: true })]),
    )
    expect(rights(MemoryType.RuntimeServicesCode)).not.toContainEqual(
      expect.objectContaining({ writable: true }),
    )
    expect(rights(MemoryType.RuntimeServicesData)).not.toContainEqual(
      expect.objectContaining({ executable: true }),
    )
  })

  test.each([
    ['linux-4.3', 'ok'],
    ['linux-4.14', 'fault'],
    ['linux-5.4', 'fault'],
    ['linux-6.1', 'fault'],
    ['linux-7.1', 'ok'],
  ])(
    'is believed by %s where it lies, and firmware then cannot write its data: %s',
    async (strategy, outcome) => {
      const lying = firmwareWith({
        powerOn: claimsSplitImages,
        memoryAttributes: () => [],
        // A driver that counts its calls.
        beforeService: (call) => {
          const count = call.imageBase + 0x1ff8n
          call.write64(count, call.read64(count) + 1n)
          return undefined
        },
      })
      const { result } = await play(strategy, boot, lying)
      expect(result.outcome).toBe(outcome)
    },
  )

  test('is not looked at where there is a memory attributes table', async () => {
    const { result } = await play('linux-4.14', boot, firmwareWith({ powerOn: claimsSplitImages }))
    expect(result.outcome).toBe('ok')
  })
})

describe('the memory attributes table', () => {
  /** Bit 0 of its flags: code carries marks for indirect branches. This firmware has none. */
  const claimsMarks = firmwareWith({
    powerOn: (setup) => {
      setup.pointer('DxeCore', 'table', setup.memoryAttributesTable!, { convert: false })
    },
    exitBootServices: (call) => call.write32(call.pointer('table') + 12n, 1),
  })

  test.each([
    ['linux-6.1', 'ok'],
    ['linux-7.1', 'fault'],
  ])(
    'says that code is marked for indirect branches, and is believed by %s: %s',
    async (strategy, outcome) => {
      const { result } = await play(strategy, boot, { ...claimsMarks, cpu: 'arrow-lake' })
      expect(result.outcome).toBe(outcome)
    },
  )
})

test.each([
  ['linux-3.14', true],
  ['linux-4.3', false],
  ['linux-6.1', false],
])('%s calls SetVirtualAddressMap with interrupts on: %s', async (strategy, expected) => {
  const seen: boolean[] = []
  await play(
    strategy,
    boot,
    firmwareWith({
      setVirtualAddressMap: ({ cpu }) => {
        seen.push(cpu.interruptFlag)
        return undefined
      },
    }),
  )
  expect(seen).toEqual([expected])
})

test.each([
  ['linux-3.14', 1],
  ['linux-4.14', 1],
  ['linux-5.4', 0],
  ['linux-6.1', 0],
])('%s deletes the DUMMY variable after kexec, too: %i times', async (strategy, times) => {
  const { events } = await play(strategy, (context, kernels) => {
    boot(context, kernels)
    context.kexec()
  })
  const after = events.filter(
    (event) =>
      event.kind === 'call' && event.name === 'SetVariable' && event.era === 'second kernel',
  )
  expect(after).toHaveLength(times)
})

test.each([
  ['linux-3.14', 6],
  ['linux-4.3', 16],
  ['linux-6.1', 16],
])('%s keeps the first %i vector registers of a process over a call', async (strategy, kept) => {
  let unchanged = -1
  await play(
    strategy,
    (context, kernels) => {
      boot(context, kernels)
      const { bootCpu } = context.machine
      const before = [...bootCpu.floatingPoint.xmm]
      context.call(context.services().getTime())
      const changed = before.findIndex((word, index) => word !== bootCpu.floatingPoint.xmm[index])
      unchanged = changed === -1 ? 16 : changed / 4
    },
    firmwareWith({
      beforeService: ({ cpu }) => {
        cpu.floatingPoint.xmm.fill(1)
        return undefined
      },
    }),
  )
  expect(unchanged).toBe(kept)
})
