// What one kernel leaves to the next, version by version.
import type { Plugin } from '@trapdoor/harness'
import { isBootServices, type Kernel } from '@trapdoor/kernel'
import { EfiStatus, isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { boot, play } from './machine.ts'

/** The map that the second kernel was given by the first. */
async function handedOver(strategy: string): Promise<readonly MemoryDescriptor[]> {
  const { kernels, result } = await play(strategy, (context, booted) => {
    boot(context, booted)
    booted.push(context.kexec())
    context.call(context.services().getTime())
  })
  expect(result.services).toMatchObject([{ ok: true, kernel: 'second kernel' }])
  return kernels[1]!.requireEfi.firmwareMap
}

describe('the runtime map', () => {
  test.each(['linux-3.14', 'linux-4.3'])(
    '%s: is a copy of what is runtime memory and no boot-services memory, in the order of the firmware’s map',
    async (strategy) => {
      const map = await handedOver(strategy)
      expect(map.length).toBeGreaterThan(0)
      expect(map.filter((each) => isBootServices(each) || !isRuntime(each))).toEqual([])
      const starts = map.map(({ physicalStart }) => physicalStart)
      expect(starts).toEqual(starts.toSorted((a, b) => a - b))
    },
  )

  test.each(['linux-4.14', 'linux-6.1'])(
    '%s: is efi.memmap, in the order of SetVirtualAddressMap, with boot-services memory that is marked and no other',
    async (strategy) => {
      const map = await handedOver(strategy)
      expect(map.filter((each) => !isRuntime(each))).toEqual([])
      expect(map.filter(isBootServices)).toHaveLength(1)
      const starts = map.map(({ physicalStart }) => physicalStart)
      expect(starts).toEqual(starts.toSorted((a, b) => b - a))
    },
  )
})

test.each(['linux-3.14', 'linux-4.14', 'linux-6.1'])(
  '%s: a second kernel without memory for the tables boots on without runtime services',
  async (strategy) => {
    let second: Kernel | undefined
    const { result } = await play(strategy, (context, booted) => {
      boot(context, booted)
      second = context.kexec({ failedAllocation: 1 })
    })
    expect(result.outcome).toBe('refused')
    expect(result.reason).toContain('EFI runtime non-functional')
    expect(second!.phase).toBe('running')
  },
)

describe('SetVirtualAddressMap', () => {
  const refusing: Plugin = {
    name: 'refusing',
    apiVersion: 1,
    quirks: [
      {
        id: 'T1',
        name: 'refusing',
        title: 'refuses SetVirtualAddressMap',
        sources: ['a test'],
        hooks: { setVirtualAddressMap: () => EfiStatus.UNSUPPORTED },
      },
    ],
  }

  test.each([
    ['linux-3.14', 'fault'],
    ['linux-4.14', 'fault'],
    ['linux-5.4', 'fault'],
    ['linux-6.1', 'refused'],
  ])('%s: where it fails the end is %s', async (strategy, outcome) => {
    const { result } = await play(strategy, boot, { plugins: [refusing], quirk: 'T1' })
    expect(result.outcome).toBe(outcome)
    expect(result.reason).toContain('Unable to switch EFI into virtual mode')
  })

  /** A map that calls all runtime memory reserved. */
  const denying: Plugin = {
    name: 'denying',
    apiVersion: 1,
    quirks: [
      {
        id: 'T2',
        name: 'denying',
        title: 'has its system table in reserved memory',
        sources: ['a test'],
        hooks: {
          powerOn: (setup) => {
            setup.reportMap((map) =>
              map.map((each) =>
                each.type === MemoryType.RuntimeServicesData
                  ? { ...each, type: MemoryType.ReservedMemoryType, attribute: 0xfn }
                  : each,
              ),
            )
          },
          setVirtualAddressMap: () => EfiStatus.SUCCESS,
        },
      },
    ],
  }

  test.each(['linux-3.14', 'linux-4.14', 'linux-5.4'])(
    '%s: is not called where no region holds the system table: BUG_ON(!efi.systab) comes before it',
    async (strategy) => {
      const { events, result } = await play(strategy, boot, { plugins: [denying], quirk: 'T2' })
      expect(result.outcome).toBe('fault')
      expect(result.reason).toContain('BUG_ON(!efi.systab)')
      expect(
        events.some((each) => each.kind === 'call' && each.name === 'SetVirtualAddressMap'),
      ).toBe(false)
    },
  )

  test('linux-6.1: is called, and what it leaves is read from the system table 1:1, which is not mapped', async () => {
    const { result } = await play('linux-6.1', boot, { plugins: [denying], quirk: 'T2' })
    expect(result.outcome).toBe('fault')
    expect(result.findings[0]!.access).toMatchObject({ kind: 'read' })
    expect(BigInt(result.findings[0]!.access!.address)).toBeLessThan(2n ** 32n)
  })
})
