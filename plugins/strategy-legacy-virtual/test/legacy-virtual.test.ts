import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Scenario,
  traceCase,
} from '@trapdoor/harness'
import type { Kernel } from '@trapdoor/kernel'
import { isRuntime, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

const PAGE_OFFSET = 0xffff_8800_0000_0000n

/** What a scenario of the test's own does on the machine of uncached-data.txt. */
async function play(run: Scenario['steps'][number]['run']): Promise<CaseTrace> {
  const scenario: Scenario = { name: 'test', title: 'a test', steps: [{ name: 'test', run }] }
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin, { name: 'test', apiVersion: 1, scenarios: [scenario] }],
    overrides: { memoryMaps: ['uncached-data.txt'] },
  })
  return traceCase(
    createEnvironment(config),
    findCase(config, 'uncached-data/none/legacy-virtual/test'),
  )
}

const kernels: Kernel[] = []
const booted = await play((context) => {
  kernels.push(context.boot())
  context.call(context.services().getTime())
  context.inspectTables()
})
const efi = kernels[0]!.requireEfi
const swapper = booted.surveys.find(({ name }) => name === 'swapper_pg_dir')!
const addressOf = (physical: number): bigint =>
  efi.memoryMap.find(({ physicalStart }) => physicalStart === physical)!.virtualStart

describe('SetVirtualAddressMap', () => {
  test('is called once, in the boot', () => {
    const calls = booted.events.filter(
      (event) => event.kind === 'call' && event.name === 'SetVirtualAddressMap',
    )
    expect(calls).toMatchObject([{ era: 'first kernel' }])
    expect(efi.virtualMode).toBe(true)
  })

  test('gets the firmware’s map in its order, with addresses for runtime regions alone', () => {
    const starts = efi.memoryMap.map(({ physicalStart }) => physicalStart)
    expect(starts).toEqual([
      0, 0x1000, 0x10_0000, 0x800_0000, 0x900_0000, 0x901_0000, 0x910_0000, 0x920_0000, 0x930_0000,
      0xa00_0000, 0xfed0_0000, 0xffe0_0000,
    ])
    for (const descriptor of efi.memoryMap) {
      expect(descriptor.virtualStart !== 0n).toBe(isRuntime(descriptor))
    }
  })

  test('is told the direct map’s address of what that covers', () => {
    for (const physical of [0x910_0000, 0x920_0000, 0x930_0000]) {
      expect(addressOf(physical)).toBe(PAGE_OFFSET + BigInt(physical))
    }
  })

  test('is told an address in vmalloc space for a device beyond', () => {
    const address = addressOf(0xffe0_0000)
    expect(address >= 0xffff_c900_0000_0000n && address < 0xffff_e900_0000_0000n).toBe(true)
    expect(swapper.inspect(address)).toMatchObject({ physical: 0xffe0_0000, patIndex: 2 })
    expect(swapper.inspect(address + 0x1f_ffffn)).toMatchObject({ physical: 0xffff_ffff })
  })
})

describe('the kernel’s tables', () => {
  test('make runtime code executable, and no other runtime region', () => {
    for (const { type, virtualStart } of efi.memoryMap.filter(isRuntime)) {
      expect(swapper.inspect(virtualStart)).toMatchObject({
        executable: type === MemoryType.RuntimeServicesCode,
      })
    }
    expect(swapper.inspect(PAGE_OFFSET + 0x921_ffffn)).toMatchObject({ executable: true })
    expect(swapper.inspect(PAGE_OFFSET + 0x922_0000n)).toMatchObject({ executable: false })
  })

  test('make UC- what cannot be cached, to its last page', () => {
    const patIndexes = [0x92f_f000n, 0x930_0000n, 0x930_f000n, 0x931_0000n].map((physical) => {
      const found = swapper.inspect(PAGE_OFFSET + physical)
      return found.status === 'mapped' ? found.patIndex : undefined
    })
    expect(patIndexes).toEqual([0, 2, 2, 0])
  })

  test('have nothing in the low half, where the firmware was', () => {
    expect(swapper.ranges.filter(({ start }) => start < 2n ** 47n)).toEqual([])
  })
})

describe('a call', () => {
  test('goes to the virtual address, on the tables of the task', () => {
    const call = booted.events.findLast(
      (event) => event.kind === 'call' && event.name === 'GetTime',
    )
    const code = efi.memoryMap.find(({ type }) => type === MemoryType.RuntimeServicesCode)
    const rip = call?.kind === 'call' ? call.rip : 0n
    expect(rip >= code!.virtualStart && rip < code!.virtualStart + 0x2_0000n).toBe(true)
    expect(
      booted.surveys.filter(({ usedForCalls }) => usedForCalls).map(({ name }) => name),
    ).toEqual(['mm of task 0'])
  })

  test('switches nothing: no CR3, no flush', () => {
    expect(booted.result.cost?.perCall).toMatchObject({ cr3Writes: 0, globalFlushes: 0 })
    expect(booted.result.outcome).toBe('ok')
  })

  test('leaves interrupts as they are', async () => {
    const seen: boolean[] = []
    await play((context) => {
      context.boot()
      const call = context.services().getTime().call!
      call.enter()
      seen.push(call.cpu.interruptFlag)
      call.execute()
      call.leave()
      seen.push(call.cpu.interruptFlag)
    })
    expect(seen).toEqual([true, true])
  })

  test('reads the tables anew, so that a pointer that changed is followed', async () => {
    const { result } = await play((context) => {
      context.boot()
      const { systab } = context.kernel.requireEfi
      const { bootCpu: cpu } = context.kernel
      const runtime = cpu.read64(systab! + 0x58n)
      // GetTime's entry gets QueryVariableInfo's function, which takes no such arguments.
      cpu.write64(runtime + 0x18n, cpu.read64(runtime + 0x80n))
      context.call(context.services().getTime())
    })
    expect(result.services[0]!.status).not.toBe('EFI_SUCCESS')
  })
})
