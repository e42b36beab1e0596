import { Cr4, FOUR_LEVEL, lowerHalf, mappedRanges, PageFault } from '@trapdoor/core'
import { EfiStatus, isRuntime, SystemTable } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  crashKexec,
  E820Type,
  type EfiHandOver,
  endOfRam,
  EfiServices,
  type Kernel,
  KernelError,
  kexec,
  LAYOUT_2_6_26,
  type NextKernel,
  type PageTableStrategy,
  ramRanges,
  type StrategyDefinition,
} from '../src/index.ts'
import {
  boot,
  type BootChoice,
  type Booted,
  converted,
  flat,
  ioremapped,
  messages,
  profileOf,
  strategyOf,
} from './booted.ts'
import {
  CONFIGURATION_TABLE,
  FLASH,
  MAP,
  RUNTIME_CODE,
  RUNTIME_DATA,
  RUNTIME_TABLE,
  SYSTEM_TABLE,
  VENDOR,
} from './small-machine.ts'
import { thrownBy } from './thrown.ts'

function next(choice: BootChoice = {}, name = 'second kernel'): NextKernel {
  return { name, profile: profileOf(choice), commandLine: choice.commandLine ?? '' }
}

function statusOfGetTime(kernel: Kernel): bigint {
  return new EfiServices(kernel, kernel.bootCpu, 'stack').getTime().run().status
}

/** Names of everybody who owns memory of this machine. */
function ownersOf({ machine }: Booted): string[] {
  return [...new Set([...machine.memory.owners.intervals()].map(({ owner }) => owner.name))]
}

interface HandingOver {
  readonly strategy: StrategyDefinition
  readonly received: EfiHandOver[]
  /** In the order of events. */
  readonly steps: string[]
}

function handingOver(): HandingOver {
  const received: EfiHandOver[] = []
  const steps: string[] = []
  const strategy = strategyOf('virtual', (): PageTableStrategy => ({
    setup: ({ name }) => steps.push(`setup in ${name}`),
    virtualMap: (kernel) => {
      steps.push(`virtualMap in ${kernel.name}`)
      return ioremapped(kernel)
    },
    handOver: ({ requireEfi: efi }) => ({
      vendor: Number(efi.vendorAddress),
      runtime: Number(efi.runtimeAddress),
      configurationTable: Number(efi.configurationTableAddress),
      memoryMap: efi.memoryMap.filter(isRuntime),
    }),
    takeOver: ({ name }, handOver) => {
      steps.push(`takeOver in ${name}`)
      received.push(handOver)
    },
  }))
  return { strategy, received, steps }
}

const crashing = (): Booted => boot({ commandLine: 'crashkernel=32M' })

describe('kexec', () => {
  test('boots a kernel in the same place that calls as the first did', () => {
    const first = boot()
    const second = kexec(first.kernel, next())
    expect(second.phase).toBe('running')
    expect(second.image.base).toBe(first.kernel.image.base)
    expect(statusOfGetTime(second)).toBe(EfiStatus.SUCCESS)
    expect(first.calls.at(-1)).toMatchObject({ service: 'GetTime', cr3: expect.any(Number) })
  })

  test('frees what the first kernel owned, and nothing of the firmware’s', () => {
    const first = boot()
    expect(ownersOf(first)).toContain('page cache of the first kernel')
    // From the pages that the next kernel will keep free.
    first.kernel.allocatePages('late buffer', 8)
    kexec(first.kernel, next())
    const owners = ownersOf(first)
    expect(owners.filter((name) => name.includes('first kernel'))).toEqual([])
    expect(owners).toContain('page cache of the second kernel')
    expect(first.machine.memory.owners.get(RUNTIME_DATA / 4096)?.kind).toBe('firmware')
  })

  test('preserves the memory map, the system table’s address and e820', () => {
    const { kernel } = boot()
    const second = kexec(kernel, { ...next(), loader: 'kexec_file_load' })
    expect(second.requireEfi.memoryMap).toEqual(MAP)
    expect(second.requireEfi.info).toEqual(kernel.requireEfi.info)
    expect(second.bootParams.e820).toEqual(kernel.bootParams.e820)
  })

  test('by kexec-tools leaves out the interrupt table of real mode', () => {
    const { kernel } = boot()
    const [first, ...rest] = kernel.bootParams.e820
    const second = kexec(kernel, next())
    expect(second.bootParams.e820).toEqual([{ ...first, start: 0x400 }, ...rest])
    expect(ramRanges(second.e820)).toEqual(ramRanges(kernel.e820))
  })

  test('by kexec-tools hands on the corrected map where add_efi_memmap has corrected it', () => {
    const { kernel } = boot({ commandLine: 'add_efi_memmap' })
    expect(kexec(kernel, next()).bootParams.e820).toEqual(kernel.e820)
  })

  test('writes an initrd over what was there, and keeps it and the real image from the page allocator', () => {
    const { kernel, machine } = boot()
    const initrd = { start: 0x600_0000, end: 0x600_2800 }
    const realImage = { start: 0x700_0000, end: 0x780_0000 }
    machine.memory.write64(initrd.start, 1n)
    machine.memory.write64(0x600_2000, 2n)
    const second = kexec(kernel, { ...next(), reserved: [initrd, realImage], realImage })
    expect(machine.memory.read64(initrd.start)).toBe(0xcccc_cccc_cccc_ccccn)
    expect(machine.memory.owners.get(0x6002)?.name).toBe('initrd of the second kernel')
    expect(machine.memory.owners.get(0x7000)?.name).toBe('initrd of the second kernel')
    expect(second.realImage).toEqual(realImage)
  })

  test('with --noefi is silent about EFI', () => {
    const { kernel } = boot()
    const second = kexec(kernel, { ...next(), noEfi: true })
    expect(second.bootParams.efi).toBeUndefined()
    expect(second.efiRefusal).toBe('not booted by EFI')
  })

  test('gives the next kernel its own command line and a new place for boot_params', () => {
    const { kernel } = boot({ commandLine: 'quiet' })
    const second = kexec(kernel, next({ commandLine: 'debug' }))
    expect(second.commandLine.text).toBe('debug')
    expect(second.bootParamsAddress).not.toBe(kernel.bootParamsAddress)
  })

  test('works again from the kernel that it booted', () => {
    const { kernel } = boot()
    let last = kernel
    for (const name of ['second', 'third', 'fourth', 'fifth']) {
      last = kexec(last, next({}, `${name} kernel`))
      expect(last.requireEfi.memoryMap).toEqual(MAP)
      expect(statusOfGetTime(last)).toBe(EfiStatus.SUCCESS)
    }
  })

  test('leaves CPUs as a kernel expects them: interrupts off, no global translations, no calls', () => {
    const first = boot({ cpus: 2 })
    const { kernel, machine } = first
    const stale = kernel.tables.directMapAddress(0x500_0000)
    for (const cpu of machine.cpus) cpu.read8(stale)
    const hooks = next()
    let seen: unknown
    const watching: NextKernel = { ...hooks, hooks: kernel.hooks }
    kernel.hooks.phase.tap('test', ({ phase, name }) => {
      if (name !== 'second kernel' || phase !== 'head_64') return
      seen = machine.cpus.map((cpu) => [cpu.interruptFlag, cpu.cr4, cpu.tlb.peek(stale)])
    })
    kexec(kernel, watching)
    expect(seen).toEqual([
      [false, Cr4.PAE, undefined],
      [false, Cr4.PAE, undefined],
    ])
    expect(messages(machine.log.events, 'kernel')).toContain('Starting new kernel')
  })

  test('leaves the low half of the next kernel as empty as it was', () => {
    const { kernel } = boot()
    const second = kexec(kernel, next())
    const context = second.bootCpu.translationContext(second.tables.swapper.root)
    expect(mappedRanges(context, lowerHalf(FOUR_LEVEL)).ranges).toEqual([])
  })

  test('may go to another layout', () => {
    const { kernel } = boot()
    const second = kexec(kernel, next({ layout: LAYOUT_2_6_26 }))
    expect(second.tables.directMapAddress(0)).toBe(0xffff_8100_0000_0000n)
    expect(statusOfGetTime(second)).toBe(EfiStatus.SUCCESS)
  })

  test('after SetVirtualAddressMap kills a kernel that nobody told', () => {
    const { kernel, machine } = boot({ strategies: [converted] })
    const pointer = machine.memory.read64(SYSTEM_TABLE + SystemTable.RuntimeServices)
    expect(pointer).toBe(0xffff_8800_0000_0000n + BigInt(RUNTIME_TABLE))
    expect(() => kexec(kernel, next())).toThrow(PageFault)
  })
})

describe('a hand-over', () => {
  test('reaches the next kernel as it was given: three physical addresses and the regions', () => {
    const { strategy, received } = handingOver()
    const { kernel } = boot({ strategies: [strategy] })
    kexec(kernel, next({ strategies: [strategy] }))
    const runtime = kernel.requireEfi.memoryMap.filter(isRuntime)
    expect(received).toEqual([
      {
        smbios: 0,
        vendor: VENDOR,
        runtime: RUNTIME_TABLE,
        configurationTable: CONFIGURATION_TABLE,
        memoryMap: runtime,
      },
    ])
    expect(runtime.map(({ physicalStart }) => physicalStart)).toEqual([
      RUNTIME_DATA,
      RUNTIME_CODE,
      FLASH,
    ])
    expect(runtime.every(({ virtualStart }) => virtualStart !== 0n)).toBe(true)
  })

  test('takes the place of setup and SetVirtualAddressMap', () => {
    const { strategy, steps } = handingOver()
    const { kernel, calls } = boot({ strategies: [strategy] })
    kexec(kernel, next({ strategies: [strategy] }))
    expect(steps).toEqual([
      'setup in first kernel',
      'virtualMap in first kernel',
      'takeOver in second kernel',
    ])
    expect(calls.map(({ service }) => service)).toEqual(['SetVirtualAddressMap'])
  })

  test('tells efi_init() where the tables are, which firmware has hidden', () => {
    const { strategy } = handingOver()
    const { kernel } = boot({ strategies: [strategy] })
    const second = kexec(kernel, next({ strategies: [strategy] }))
    expect(second.requireEfi).toMatchObject({
      vendor: 'Tiny Firmware',
      runtimeAddress: BigInt(RUNTIME_TABLE),
      virtualMode: true,
    })
    expect(second.requireEfi.info.memmapSize).toBe(3 * 40)
  })

  test('has descriptors as far apart as the kernel’s own, where the kernel loads the next itself', () => {
    const { strategy } = handingOver()
    const { kernel } = boot({ strategies: [strategy] })
    const at = { setupEfi: 0x650_0100, runtimeMap: 0x650_0070 }
    const second = kexec(kernel, {
      ...next({ strategies: [strategy] }),
      loader: 'kexec_file_load',
      handOverAt: at,
    })
    expect(second.bootParams.setupData).toBe(at.setupEfi)
    expect(second.requireEfi.info).toMatchObject({
      memmap: at.runtimeMap,
      memdescSize: 48,
      memmapSize: 3 * 48,
    })
    expect(second.machine.memory.owners.get(0x6500)?.name).toBe('setup_data of the second kernel')
  })

  test('goes on from kernel to kernel', () => {
    const { strategy, received } = handingOver()
    const { kernel } = boot({ strategies: [strategy] })
    const second = kexec(kernel, next({ strategies: [strategy] }))
    kexec(second, next({ strategies: [strategy] }, 'third kernel'))
    expect(received[1]).toEqual(received[0])
  })

  test('is not for a kernel whose strategy has no use for it, which dies as without', () => {
    const { strategy } = handingOver()
    const { kernel } = boot({ strategies: [strategy] })
    expect(() => kexec(kernel, next({ strategies: [converted] }))).toThrow(PageFault)
  })

  test('comes from no kernel that went without EFI itself', () => {
    const { strategy, steps } = handingOver()
    const { kernel } = boot({ strategies: [strategy], commandLine: 'noefi' })
    const second = kexec(kernel, next({ strategies: [strategy] }))
    expect(second.bootParams.setupData).toBe(0)
    expect(steps).toEqual(['setup in second kernel', 'virtualMap in second kernel'])
  })
})

describe('kdump', () => {
  test('boots the crash kernel in the reserved region, without what kexec-tools keep at its end', () => {
    const { kernel } = crashing()
    const crash = crashKexec(kernel, next({}, 'crash kernel'))
    const region = kernel.crashRegion!
    expect(crash.image.base).toBe(region.start)
    // Low memory, which is saved to a backup segment, and 16 KiB for the headers of the dump.
    const backup = region.end - (0xa_0000 - 0x1000)
    expect(crash.e820.filter(({ type }) => type === E820Type.RAM)).toEqual([
      { start: 0x1000, end: 0xa_0000, type: E820Type.RAM },
      { start: region.start, end: backup - 0x4000, type: E820Type.RAM },
    ])
    expect(statusOfGetTime(crash)).toBe(EfiStatus.SUCCESS)
  })

  test('saves low memory before the crash kernel gets it', () => {
    const { kernel, machine } = crashing()
    machine.memory.write64(0x5000, 0x6c6f_77n)
    crashKexec(kernel, next({}, 'crash kernel'))
    const backup = kernel.crashRegion!.end - (0xa_0000 - 0x1000)
    expect(machine.memory.read64(backup + 0x4000)).toBe(0x6c6f_77n)
  })

  test('by the kernel itself keeps the headers of the dump at the region’s beginning', () => {
    const { kernel } = crashing()
    const region = kernel.crashRegion!
    const crash = crashKexec(kernel, { ...next({}, 'crash kernel'), loader: 'kexec_file_load' })
    // One page: 64 bytes and 56 for the CPU, three ranges of RAM and two more.
    expect(crash.bootParams.e820).toContainEqual({
      start: region.start + 0x1000,
      end: region.end,
      type: E820Type.RAM,
    })
    expect(crash.image.base).toBe(region.start + 0x20_0000)
    expect(statusOfGetTime(crash)).toBe(EfiStatus.SUCCESS)
  })

  test('has room for headers of everything that may be plugged in from Linux 6.6 on', () => {
    const { kernel } = boot({ commandLine: 'crashkernel=32M', linux: '6.6' })
    const region = kernel.crashRegion!
    const crash = crashKexec(kernel, { ...next({}, 'crash kernel'), loader: 'kexec_file_load' })
    expect(crash.bootParams.e820).toContainEqual({
      start: region.start + 64 + 56 * (2 + 8192 + 8192),
      end: region.end,
      type: E820Type.RAM,
    })
  })

  test('leaves the memory of the kernel that crashed for the dump', () => {
    const first = crashing()
    const { kernel, machine } = first
    machine.memory.write64(0x0600_0000, 0x6475_6d70n)
    crashKexec(kernel, next({}, 'crash kernel'))
    expect(machine.memory.read64(0x0600_0000)).toBe(0x6475_6d70n)
    expect(machine.memory.owners.get(0x0600_0000 / 4096)?.name).toBe(
      'page cache of the first kernel',
    )
    // The firmware's map is where the first kernel had it.
    const own = [...machine.memory.owners.intervals()].filter(
      ({ owner }) =>
        owner.name.endsWith(' of the crash kernel') && !owner.name.startsWith('EFI memory map'),
    )
    const region = kernel.crashRegion!
    expect(own.length).toBeGreaterThan(0)
    for (const { start, end } of own) {
      const isLow = start * 4096 >= 0x1000 && end * 4096 <= 0xa_0000
      const isReserved = start * 4096 >= region.start && end * 4096 <= region.end
      expect(isLow || isReserved).toBe(true)
    }
  })

  test('comes out of a call that never returned', () => {
    const first = boot({
      commandLine: 'crashkernel=32M',
      services: {
        SetTime: () => {
          throw new RangeError('the machine crashed here')
        },
      },
    })
    const { kernel, machine } = first
    const call = new EfiServices(kernel, kernel.bootCpu, 'stack').setTime({
      year: 2010,
      month: 8,
      day: 13,
      hour: 0,
      minute: 0,
      second: 0,
      nanosecond: 0,
      timeZone: 0,
      daylight: 0,
    })
    expect(() => call.run()).toThrow('the machine crashed here')
    expect(machine.bootCpu.calls).toHaveLength(1)
    const crash = crashKexec(kernel, next({}, 'crash kernel'))
    expect(machine.bootCpu.calls).toEqual([])
    expect(machine.bootCpu.touchRecorder).toBeUndefined()
    expect(statusOfGetTime(crash)).toBe(EfiStatus.SUCCESS)
  })

  test('maps in the direct map what the crash kernel calls RAM, and what lies below', () => {
    const { kernel } = crashing()
    const crash = crashKexec(kernel, next({}, 'crash kernel'))
    expect(crash.tables.directMapEnds.lowEnd).toBe(endOfRam(crash.e820))
    expect(endOfRam(crash.e820)).toBeGreaterThan(kernel.crashRegion!.start)
  })

  test('without reserved memory is an error that names the remedy', () => {
    const { kernel } = boot()
    const error = thrownBy(KernelError, () => crashKexec(kernel, next()))
    expect(error.code).toBe('KERNEL_BAD_HAND_OFF')
    expect(error.found).toBe('none reserved')
    expect(error.hint).toContain('crashkernel=')
  })

  test('with less memory than a kernel needs is an error too', () => {
    const { kernel } = boot({ commandLine: 'crashkernel=16M' })
    const error = thrownBy(KernelError, () => crashKexec(kernel, next()))
    expect(error.code).toBe('KERNEL_BAD_HAND_OFF')
    expect(error.found).toBe(`${16 * 2 ** 20} bytes`)
  })

  test('hands over as kexec does', () => {
    const handing = strategyOf('physical', () => ({
      ...flat.create({}),
      handOver: () => ({ vendor: VENDOR, runtime: 2, configurationTable: 3, memoryMap: [] }),
    }))
    const { kernel } = boot({ strategies: [handing], commandLine: 'crashkernel=32M' })
    const crash = crashKexec(kernel, next({ commandLine: 'noefi' }, 'crash kernel'))
    const region = kernel.crashRegion!
    expect(crash.bootParams.setupData).toBeGreaterThanOrEqual(region.start)
    expect(crash.bootParams.setupData).toBeLessThan(region.end)
  })
})
