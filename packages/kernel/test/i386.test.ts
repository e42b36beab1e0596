import { BITS_32_PSE, inspectAddress, PAE } from '@trapdoor/core'
import { smallFirmware, SMALL_MAP } from '@trapdoor/plugin-kit'
import { MemoryAttribute, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  addMemory,
  type AddressSpaceLayout,
  bootKernel,
  createKernelHooks,
  EfiServices,
  growVmalloc,
  InitialPageTable,
  type Kernel,
  kexec,
  LAYOUT_2_6_35,
  LAYOUT_I386,
  LAYOUT_I386_PAE,
  loadKernel,
  loadModules,
  PagingOff,
  splitAt,
  type StrategyDefinition,
  suspendToRam,
  SwapperAlias,
  takeInterrupt,
} from '../src/index.ts'

const PAGE_OFFSET = 0xc000_0000n
const LOW_MEMORY_END = 0x3800_0000
/** As {@link SMALL_MAP}, whose memory ends below 1 GiB, and above 896 MiB. */
const END_OF_RAM = 0x4200_0000

/** Calls with paging off, by way of an alias. */
function pagingOff(alias: 'swapper' | 'initial'): StrategyDefinition {
  return {
    name: alias,
    title: 'this test',
    mode: 'physical',
    sources: ['this test'],
    create: () => {
      let path: PagingOff | undefined
      return {
        setup: (kernel) => {
          const initial = alias === 'initial' ? new InitialPageTable(kernel, 'task') : undefined
          initial?.sync()
          path = new PagingOff(kernel, initial ?? new SwapperAlias(kernel), { perCpu: true })
        },
        passedArguments: (call) => path!.passedArguments(call),
        enter: (call) => {
          path!.enter(call)
        },
        leave: (call) => {
          path!.leave(call)
        },
      }
    },
  }
}

function boot(layout: AddressSpaceLayout, architecture: 'x64' | 'ia32' = 'ia32', cpus = 1): Kernel {
  const firmware = smallFirmware([], { architecture, cpus })
  return bootKernel(loadKernel(firmware.powerOn(), 'crashkernel=32M'), {
    name: 'first kernel',
    profile: { layout, strategies: [{ definition: pagingOff('initial') }] },
    hooks: createKernelHooks(),
  })
}

function inSwapper(kernel: Kernel, address: bigint): ReturnType<typeof inspectAddress> {
  return inspectAddress(kernel.bootCpu.translationContext(kernel.tables.swapper.root), address)
}

describe.each([
  ['with PAE', LAYOUT_I386_PAE, PAE, 0x20_0000],
  ['without PAE', LAYOUT_I386, BITS_32_PSE, 0x40_0000],
] as const)('a kernel of 32 bits %s', (_name, layout, mode, largePage) => {
  test('runs in its own paging mode, in a code segment of 32 bits', () => {
    const { bootCpu: cpu, architecture } = boot(layout)
    expect(cpu.mode).toBe(mode)
    expect(architecture.name).toBe('ia32')
    expect(cpu.codeSegmentLong).toBe(false)
    expect([cpu.cs, cpu.ss]).toEqual([0x60, 0x68])
  })

  test('gets there from 64-bit firmware, too, and goes without runtime services', () => {
    const kernel = boot(layout, 'x64')
    expect(kernel.bootCpu.mode).toBe(mode)
    expect(kernel.efiRefusal).toBe('32/64-bit mismatch: firmware for x64, kernel for ia32')
    const time = new EfiServices(kernel, kernel.bootCpu, 'stack').getTime()
    expect(time.call).toBeUndefined()
  })

  test('has 896 MiB in its direct map, in large pages, and vmalloc space behind a hole of 8 MiB', () => {
    const kernel = boot(layout)
    const { tables } = kernel
    expect(tables.directMapEnds).toEqual({ lowEnd: LOW_MEMORY_END, highEnd: LOW_MEMORY_END })
    const last = PAGE_OFFSET + BigInt(LOW_MEMORY_END - largePage)
    expect(inSwapper(kernel, last)).toMatchObject({ status: 'mapped', pageSize: largePage })
    expect(inSwapper(kernel, PAGE_OFFSET + BigInt(LOW_MEMORY_END))).toMatchObject({
      status: 'not-present',
    })
    expect(tables.layout.vmallocStart).toBe(0xf880_0000n)
    expect(tables.isDirectMapped(LOW_MEMORY_END)).toBe(true)
    expect(tables.isDirectMapped(END_OF_RAM)).toBe(false)
  })

  test('lies in the direct map, its text executable and not writable', () => {
    const kernel = boot(layout)
    const { image } = kernel
    expect(image.start).toBe(PAGE_OFFSET + BigInt(image.base))
    expect(inSwapper(kernel, image.start)).toMatchObject({ writable: false, executable: true })
    const data = image.start + 0x80_0000n
    expect(inSwapper(kernel, data)).toMatchObject({ writable: true, executable: mode !== PAE })
  })

  test('keeps what is its own in low memory, and has high memory for vmalloc() and files', () => {
    const kernel = boot(layout)
    for (const { root } of kernel.roots) expect(root).toBeLessThan(LOW_MEMORY_END)
    const vmalloc = inSwapper(kernel, kernel.argumentAreas[0]!.start('vmalloc'))
    expect(vmalloc.status === 'mapped' && vmalloc.physical >= LOW_MEMORY_END).toBe(true)
    const { freeRanges } = kernel.allocator
    expect(freeRanges.every(({ end }) => end * 4096 <= LOW_MEMORY_END)).toBe(true)
    expect(freeRanges.length).toBeGreaterThan(0)
  })

  test('gives processes all entries of the root below PAGE_OFFSET', () => {
    const { tables, tasks } = boot(layout)
    const { first, end } = tables.kernelHalf
    expect([first, end]).toEqual(mode === PAE ? [3, 4] : [768, 1024])
    for (let index = first; index < end; index++) {
      expect(tasks[0]!.tables.rootEntry(index)).toBe(tables.swapper.rootEntry(index))
    }
    expect([tables.lowHalfEnd, tables.kernelHalfStart]).toEqual([PAGE_OFFSET, PAGE_OFFSET])
  })

  test('takes interrupts on the stack of the moment, and comes back', () => {
    const kernel = boot(layout)
    const { bootCpu: cpu } = kernel
    const before = [cpu.rsp, cpu.cs, cpu.interruptFlag]
    let inside = 0n
    takeInterrupt(kernel, cpu, 'NMI', () => {
      inside = cpu.rsp
    })
    expect(inside).toBe((before[0] as bigint) - 12n)
    expect([cpu.rsp, cpu.cs, cpu.interruptFlag]).toEqual(before)
  })

  test('goes on from kernel to kernel, also to one that is split elsewhere, or wider', () => {
    const kernel = boot(layout)
    const next = (to: AddressSpaceLayout): Kernel =>
      kexec(kernel, {
        name: 'second kernel',
        commandLine: '',
        profile: { layout: to, strategies: [{ definition: pagingOff('initial') }] },
      })
    const split = next(splitAt(layout, 2))
    expect(split.image.start).toBe(0x8000_0000n + BigInt(split.image.base))
    const time = new EfiServices(split, split.bootCpu, 'stack').getTime().run()
    expect(time.status).toBe(0n)
  })

  test('kexecs into a kernel of 64 bits, which goes without runtime services', () => {
    const second = kexec(boot(layout), {
      name: 'second kernel',
      commandLine: '',
      profile: { layout: LAYOUT_2_6_35, strategies: [{ definition: pagingOff('initial') }] },
    })
    expect(second.bootCpu.mode.name).toBe('4-level')
    expect(second.bootCpu.codeSegmentLong).toBe(true)
    expect(second.efiRefusal).toBe('32/64-bit mismatch: firmware for ia32, kernel for x64')
  })

  test('comes back from suspend with all its CPUs', () => {
    const kernel = boot(layout, 'ia32', 2)
    suspendToRam(kernel)
    for (const cpu of kernel.machine.cpus) {
      expect(cpu.mode).toBe(mode)
      const services = new EfiServices(kernel, cpu, 'stack')
      expect(services.getTime().run().status).toBe(0n)
    }
  })

  test('grows where it has room: vmalloc space, modules, and high memory without addresses', () => {
    const kernel = boot(layout)
    growVmalloc(kernel)
    loadModules(kernel)
    const { modulesStart, modulesEnd } = kernel.tables.layout
    const modules = kernel.argumentAreas[0]!.start('module')
    expect(modules > modulesStart && modules < modulesEnd!).toBe(true)
    const kmalloc = kernel.argumentAreas[0]!.start('kmalloc')
    expect(addMemory(kernel)).toBeGreaterThanOrEqual(END_OF_RAM)
    expect(kernel.argumentAreas[0]!.start('kmalloc')).toBe(kmalloc)
  })

  test('reserves memory for a crash kernel in low memory', () => {
    const { crashRegion } = boot(layout)
    expect(crashRegion!.end).toBeLessThan(LOW_MEMORY_END)
  })
})

test('without PAE memory above 4 GiB is not used', () => {
  const high = { ...SMALL_MAP[2]!, physicalStart: 2 ** 32 }
  const memoryMap = [...SMALL_MAP, high]
  const firmware = smallFirmware([], { memoryMap, architecture: 'ia32' })
  const free = (layout: AddressSpaceLayout): string[] => {
    const kernel = bootKernel(loadKernel(firmware.powerOn(), ''), {
      name: 'first kernel',
      profile: { layout, strategies: [{ definition: pagingOff('initial') }] },
    })
    const owner = kernel.machine.memory.owners.get((2 ** 32 + 0x10_0000) / 4096)
    return [owner?.name ?? 'nobody']
  }
  expect(free(LAYOUT_I386)).toEqual(['nobody'])
  expect(free(LAYOUT_I386_PAE)[0]).toMatch(/of the first kernel$/)
})

test('a machine with little memory has more vmalloc space', () => {
  const memoryMap = SMALL_MAP.filter(
    ({ physicalStart, type }) => physicalStart < 0x3469_0000 || type === MemoryType.MemoryMappedIO,
  ).map((each) => Object.assign({}, each, { attribute: each.attribute | MemoryAttribute.WB }))
  const firmware = smallFirmware([], { memoryMap, architecture: 'ia32' })
  const kernel = bootKernel(loadKernel(firmware.powerOn(), ''), {
    name: 'first kernel',
    profile: { layout: LAYOUT_I386_PAE, strategies: [{ definition: pagingOff('initial') }] },
  })
  expect(kernel.tables.layout.vmallocStart).toBeLessThan(0xf880_0000n)
})

test('the alias in swapper_pg_dir is for who runs on it', () => {
  const firmware = smallFirmware([], { architecture: 'ia32' })
  const kernel = bootKernel(loadKernel(firmware.powerOn(), ''), {
    name: 'first kernel',
    profile: { layout: LAYOUT_I386_PAE, strategies: [{ definition: pagingOff('swapper') }] },
  })
  const { bootCpu: cpu, tables } = kernel
  const time = (): bigint => new EfiServices(kernel, cpu, 'stack').getTime().run().status
  cpu.interruptFlag = false
  cpu.writeCr3(tables.swapper.root)
  expect(time()).toBe(0n)
  expect(tables.swapper.rootEntry(0)).toBe(0n)
  kernel.tasks[0]!.switchTo()
  expect(time).toThrow(/page not present/)
})
