import {
  BROADWELL,
  Cr0,
  Cr4,
  Efer,
  FOUR_LEVEL,
  lowerHalf,
  mappedRanges,
  PageFault,
  PAT_LINUX,
} from '@trapdoor/core'
import { MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  type BootPhase,
  createKernelHooks,
  E820Type,
  type Kernel,
  KernelError,
  KernelPanic,
  StrategyRefusal,
} from '../src/index.ts'
import { boot, bootOn, converted, flat, messages, strategyOf } from './booted.ts'
import {
  descriptor,
  MAP,
  RAM_END,
  RUNTIME_CODE_END,
  RUNTIME_DATA,
  smallMachine,
  SYSTEM_TABLE,
} from './small-machine.ts'
import { thrownBy } from './thrown.ts'

const PHASES: readonly BootPhase[] = [
  'head_64',
  'setup_arch',
  'efi_init',
  'init_memory_mapping',
  'mm_init',
  'efi',
  'running',
]

describe('the boot', () => {
  test('goes through its phases in order, each once', () => {
    const hooks = createKernelHooks()
    const seen: string[] = []
    hooks.phase.tap('test', (kernel) => seen.push(kernel.phase))
    const { machine } = boot({ hooks })
    expect(seen).toEqual(PHASES)
    const logged = machine.log.events.flatMap((event) =>
      event.kind === 'phase' && event.era === 'first kernel' ? [event.name] : [],
    )
    expect(logged).toEqual(PHASES)
  })

  test('ends in the last phase: there is no other to enter', () => {
    const { kernel } = boot()
    expect(() => {
      kernel.enterPhase('efi')
    }).toThrow('expected phase running, the last, found efi')
  })

  test('sets the control registers as head_64.S does, on every CPU', () => {
    const { machine } = boot({ cpus: 2, features: BROADWELL })
    for (const cpu of machine.cpus) {
      expect(cpu.cr0 & Cr0.WP).toBe(Cr0.WP)
      expect(cpu.efer & Efer.NXE).toBe(Efer.NXE)
      expect(cpu.cr4).toBe(Cr4.PAE | Cr4.PGE | Cr4.OSFXSR | Cr4.OSXMMEXCPT)
      expect(cpu.pat).toEqual(PAT_LINUX)
      expect(cpu.interruptFlag).toBe(true)
    }
  })

  test('runs with interrupts off until start_kernel() comes to EFI', () => {
    const hooks = createKernelHooks()
    const on: boolean[] = []
    hooks.phase.tap('test', ({ bootCpu }) => on.push(bootCpu.interruptFlag))
    boot({ hooks })
    expect(on.slice(1)).toEqual([false, false, false, false, true, true])
  })

  test('hands no page to two owners: all of RAM is in use but what it keeps free', () => {
    const { kernel, machine } = boot()
    const free = kernel.allocator.freeRanges.reduce((sum, { start, end }) => sum + end - start, 0)
    expect(free).toBe(256)
    const { owners } = machine.memory
    for (const range of kernel.allocator.freeRanges) {
      expect(owners.get(range.start)?.kind).not.toBe('kernel')
    }
    // Boot-services memory is the kernel's, runtime memory is not.
    expect(owners.get(0x0830_0000 / 4096)).toEqual({
      kind: 'kernel',
      name: 'page cache of the first kernel',
    })
    expect(owners.get(RUNTIME_DATA / 4096)?.kind).toBe('firmware')
    expect(owners.get(RUNTIME_CODE_END / 4096 - 1)?.kind).toBe('firmware')
  })

  test('overwrites what was in the memory that it takes', () => {
    const small = smallMachine()
    small.machine.memory.write64(0x0830_0000, 0x1234_5678n)
    bootOn(small)
    expect(small.machine.memory.read64(0x0830_0000)).toBe(0x6361_6368_6361_6368n)
  })
})

describe('the low half', () => {
  test('of swapper_pg_dir is empty', () => {
    const { kernel } = boot()
    for (let index = 0; index < 256; index++) {
      expect(kernel.tables.swapper.rootEntry(index)).toBe(0n)
    }
  })

  test('is empty already when the kernel looks for EFI', () => {
    const hooks = createKernelHooks()
    let found: PageFault | undefined
    hooks.phase.tap('test', ({ phase, bootCpu }) => {
      if (phase !== 'efi_init') return
      found = thrownBy(PageFault, () => bootCpu.read8(BigInt(RUNTIME_DATA)))
    })
    boot({ hooks })
    expect(found?.address).toBe(BigInt(RUNTIME_DATA))
  })

  test('of a task has the page of the process and nothing else', () => {
    const { kernel } = boot()
    const { root } = kernel.tasks[0]!.tables
    const { ranges } = mappedRanges(kernel.bootCpu.translationContext(root), lowerHalf(FOUR_LEVEL))
    expect(ranges).toMatchObject([
      { start: 0x40_0000n, bytes: 4096, user: true, writable: true, global: false },
    ])
  })
})

describe('memory that is no RAM', () => {
  test('is page 0, which is reserved, and the legacy hole, which is nothing, whatever the map says', () => {
    const map = [descriptor(MemoryType.ConventionalMemory, 0, 0x10_0000), ...MAP.slice(2)]
    const { kernel } = boot({ map })
    expect(kernel.e820.slice(0, 3)).toEqual([
      { start: 0, end: 0x1000, type: E820Type.RESERVED },
      { start: 0x1000, end: 0xa_0000, type: E820Type.RAM },
      { start: 0x10_0000, end: RUNTIME_DATA, type: E820Type.RAM },
    ])
    expect(kernel.machine.memory.owners.get(0)?.kind).not.toBe('kernel')
    expect(kernel.machine.memory.owners.get(0xa0)?.kind).not.toBe('kernel')
  })
})

describe('the command line', () => {
  test('picks the physical strategy without virtefi, the virtual one with it', () => {
    const strategies = [converted, flat]
    const withStrategies = (commandLine: string): string | undefined =>
      boot({ strategies, commandLine }).kernel.strategy?.definition.name
    expect(withStrategies('')).toBe('test-physical')
    expect(withStrategies('quiet virtefi')).toBe('test-virtual')
  })

  test('leaves a kernel that has the virtual strategy alone no choice', () => {
    const { kernel, calls } = boot({ strategies: [converted] })
    expect(kernel.strategy?.definition.name).toBe('test-virtual')
    expect(calls.map(({ service }) => service)).toEqual(['SetVirtualAddressMap'])
  })

  test('with virtefi is an error where no strategy is virtual', () => {
    const error = thrownBy(KernelError, () => boot({ commandLine: 'virtefi' }))
    expect(error.code).toBe('KERNEL_NO_STRATEGY')
    expect(error.found).toBe('test-physical')
  })

  test('with noefi means that nothing of EFI is looked at, and says so once', () => {
    const hooks = createKernelHooks()
    const reasons: string[] = []
    hooks.refused.tap('test', (_kernel, reason) => reasons.push(reason))
    const { kernel, calls, machine } = boot({ commandLine: 'noefi', hooks })
    expect(reasons).toEqual(['noefi on the command line'])
    expect(kernel.efiRefusal).toBe('noefi on the command line')
    expect([kernel.efi, kernel.strategy]).toEqual([undefined, undefined])
    expect(calls).toEqual([])
    expect(messages(machine.log.events, 'kernel').filter((text) => text.startsWith('EFI'))).toEqual(
      [],
    )
  })

  test('with noefi leaves efi_init() undone for whoever asks', () => {
    const { kernel } = boot({ commandLine: 'noefi' })
    const error = thrownBy(KernelError, () => kernel.requireEfi)
    expect(error.code).toBe('KERNEL_WRONG_PHASE')
    expect(error.expected).toBe('a kernel that has been through efi_init')
  })
})

function regionOf(commandLine: string, linux: string, map = MAP): unknown {
  return boot({ commandLine, linux, map }).kernel.crashRegion
}

describe('crashkernel=', () => {
  test('reserves the lowest free memory on a 16 MiB boundary, and says where', () => {
    const { kernel, machine } = boot({ commandLine: 'crashkernel=32M' })
    // The image and what the loader left end at 0x2020000.
    expect(kernel.crashRegion).toEqual({ start: 0x300_0000, end: 0x500_0000 })
    expect(messages(machine.log.events, 'kernel')).toContain(
      'Reserving 32MB of memory at 48MB for crashkernel',
    )
    const { owners } = machine.memory
    expect(owners.get(0x3000)?.name).toBe('crash kernel of the first kernel')
    expect(owners.get(0x4fff)?.name).toBe('crash kernel of the first kernel')
    expect(owners.get(0x5000)?.name).not.toBe('crash kernel of the first kernel')
  })

  test('keeps out of memory above 896 MiB, which a crash kernel could not use', () => {
    const high = [
      ...MAP.filter(({ physicalStart }) => physicalStart < 0x10_0000),
      descriptor(MemoryType.ConventionalMemory, 0x100_0000, 0x400_0000),
      ...MAP.filter(({ physicalStart }) => physicalStart >= 0x800_0000),
      descriptor(MemoryType.ConventionalMemory, 0x3000_0000, 0x8000_0000),
    ]
    const { kernel } = boot({ map: high, commandLine: 'crashkernel=64M' })
    expect(kernel.crashRegion).toEqual({ start: 0x900_0000, end: 0xd00_0000 })
  })

  describe('from Linux 3.0 on', () => {
    // Boot services have from 128 MiB up to the runtime regions; from behind those to the end of RAM there are 119 MiB.
    test('takes the highest free memory', () => {
      expect(regionOf('crashkernel=32M', '3.0')).toEqual({ start: 0xd00_0000, end: 0xf00_0000 })
    })

    test('keeps below 896 MiB up to 5.1, and below 4 GiB later', () => {
      const map = [...MAP, descriptor(MemoryType.ConventionalMemory, 0x3000_0000, 0x8000_0000)]
      expect(regionOf('crashkernel=64M', '5.1', map)).toEqual({
        start: 0x3400_0000,
        end: 0x3800_0000,
      })
      expect(regionOf('crashkernel=64M', '5.2', map)).toEqual({
        start: 0x7c00_0000,
        end: 0x8000_0000,
      })
    })

    test('goes above 4 GiB where there is no room below, or where it is asked to, with 256 MiB below', () => {
      const high = descriptor(MemoryType.ConventionalMemory, 0x1_0000_0000, 0x1_8000_0000)
      const low = descriptor(MemoryType.ConventionalMemory, 0x3000_0000, 0x8000_0000)
      expect(regionOf('crashkernel=1G', '6.1', [...MAP, high])).toBeUndefined()
      expect(regionOf('crashkernel=1G crashkernel=0,low', '6.1', [...MAP, high])).toEqual({
        start: 0x1_4000_0000,
        end: 0x1_8000_0000,
      })
      const { kernel } = boot({
        commandLine: 'crashkernel=1G,high',
        linux: '6.1',
        map: [...MAP, low, high],
      })
      expect(kernel.crashRegion).toEqual({ start: 0x1_4000_0000, end: 0x1_8000_0000 })
      expect(kernel.crashLowRegion).toEqual({ start: 0x7000_0000, end: 0x8000_0000 })
    })

    test('is where the command line puts it, or nowhere', () => {
      expect(regionOf('crashkernel=16M@64M', '6.1')).toEqual({
        start: 0x400_0000,
        end: 0x500_0000,
      })
      expect(regionOf('crashkernel=16M@130M', '6.1')).toBeUndefined()
    })

    test('depends on how much memory there is', () => {
      expect(regionOf('crashkernel=64M-128M:8M,128M-:16M', '6.1')).toEqual({
        start: 0xe00_0000,
        end: 0xf00_0000,
      })
      expect(regionOf('crashkernel=1G-:16M', '6.1')).toBeUndefined()
    })
  })

  test('reserves whole pages', () => {
    const { kernel } = boot({ commandLine: 'crashkernel=5000' })
    expect(kernel.crashRegion).toEqual({ start: 0x300_0000, end: 0x300_2000 })
  })

  test('without so much memory in one piece reserves nothing, and the kernel boots on', () => {
    const { kernel, machine } = boot({ commandLine: 'crashkernel=128M' })
    expect(kernel.phase).toBe('running')
    expect(kernel.crashRegion).toBeUndefined()
    expect(messages(machine.log.events, 'kernel')).toContain(
      'crashkernel reservation failed - No suitable area found.',
    )
  })

  test('left out reserves nothing', () => {
    expect(boot().kernel.crashRegion).toBeUndefined()
  })
})

describe('add_efi_memmap', () => {
  // Both maps come from one source: what the option adds is what an e820 of 128 entries had no room for.
  const many = [
    ...MAP.filter(({ physicalStart }) => physicalStart < RUNTIME_CODE_END),
    ...Array.from({ length: 140 }, (_, index) => {
      const start = 0x1000_0000 + index * 0x2_0000
      return descriptor(MemoryType.ConventionalMemory, start, start + 0x1_0000)
    }),
  ]
  const lastRam = 0x1000_0000 + 139 * 0x2_0000

  test('brings back what the zero page had no room for', () => {
    const { kernel } = boot({ map: many, commandLine: 'add_efi_memmap' })
    expect(kernel.e820.at(-1)).toEqual({
      start: lastRam,
      end: lastRam + 0x1_0000,
      type: E820Type.RAM,
    })
  })

  test('left out leaves the e820 map of the loader', () => {
    const { kernel } = boot({ map: many })
    expect(kernel.e820.at(-1)!.end).toBeLessThan(lastRam)
  })
})

describe('a strategy', () => {
  test('is set up once, when page attributes may be changed and nothing runs yet', () => {
    const seen: { phase: string; tasks: number; interrupts: boolean }[] = []
    const curious = strategyOf('physical', () => ({
      setup: (kernel: Kernel) => {
        seen.push({
          phase: kernel.phase,
          tasks: kernel.tasks.length,
          interrupts: kernel.bootCpu.interruptFlag,
        })
        kernel.tables.setMemoryUncached(kernel.tables.directMapAddress(0x20_0000), 4096)
      },
    }))
    boot({ strategies: [curious] })
    expect(seen).toEqual([{ phase: 'efi', tasks: 0, interrupts: true }])
  })

  test('that refuses leaves a kernel without runtime services, which says why', () => {
    const hooks = createKernelHooks()
    const reasons: string[] = []
    hooks.refused.tap('test', (_kernel, reason) => reasons.push(reason))
    const picky = strategyOf('physical', () => ({
      setup: () => {
        throw new StrategyRefusal('not on this machine')
      },
    }))
    const { kernel, machine } = boot({ strategies: [picky], hooks })
    expect(kernel.phase).toBe('running')
    expect(kernel.strategy).toBeUndefined()
    expect(kernel.efiRefusal).toBe('not on this machine')
    expect(reasons).toEqual(['not on this machine'])
    expect(messages(machine.log.events, 'kernel')).toContain(
      'EFI runtime services disabled: not on this machine',
    )
  })

  test('that panics takes the kernel with it', () => {
    const doomed = strategyOf('physical', () => ({
      setup: () => {
        throw new KernelPanic('EFI PAGETABLE BUG #00!')
      },
    }))
    expect(() => boot({ strategies: [doomed] })).toThrow(KernelPanic)
  })

  test('is counted by the pages of its tables', () => {
    const { kernel } = boot()
    // A root, a PDPT, a directory and one page table for code and data, and for the flash a directory and two tables.
    expect(kernel.efiTablePages).toBe(7)
  })
})

test('a CPU exception in the boot is printed as the kernel’s last words', () => {
  const small = smallMachine()
  small.machine.memory.write64(SYSTEM_TABLE + 0x18, 0xffff_8800_0840_0200n)
  const { address } = thrownBy(PageFault, () => bootOn(small))
  expect(address).toBe(0xffff_ffff_ff20_0200n)
  const last = messages(small.machine.log.events, 'kernel').at(-1)
  expect(last).toMatch(/^PANIC: early exception 0e cr2 ffffffffff200200: /)
})

test('RAM ends where the map says that it does', () => {
  const { kernel } = boot()
  const ram = kernel.e820.filter(({ type }) => type === E820Type.RAM)
  expect(ram.at(-1)!.end).toBe(RAM_END)
})
