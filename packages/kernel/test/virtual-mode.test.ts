import { type Cpu, inspectAddress, MemoryKind, PAT_LINUX } from '@trapdoor/core'
import {
  decodeMemoryMap,
  EfiStatus,
  isRuntime,
  type MemoryDescriptor,
  MemoryType,
} from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { efiIoremap, EfiServices, type Kernel, KernelPanic } from '../src/index.ts'
import {
  boot,
  type Booted,
  bootOn,
  converted,
  inSwapper,
  ioremapped,
  strategyOf,
} from './booted.ts'
import {
  convertTables,
  descriptor,
  FLASH,
  gateOf,
  MAP,
  RAM_END,
  RUNTIME_CODE,
  RUNTIME_CODE_END,
  RUNTIME_DATA,
  RUNTIME_UC,
  RUNTIME_WB,
  smallMachine,
  type SmallMachineOptions,
  STRIDE,
  SYSTEM_TABLE,
} from './small-machine.ts'

const PAGE_OFFSET = 0xffff_8800_0000_0000n
const inDirectMap = (physical: number): bigint => PAGE_OFFSET + BigInt(physical)

/** A boot in which `look` sees the machine from inside SetVirtualAddressMap. */
function bootLooking(
  look: (cpu: Cpu, args: readonly bigint[]) => void,
  options: SmallMachineOptions = {},
): Booted {
  return boot({
    ...options,
    strategies: [converted],
    services: {
      SetVirtualAddressMap: (call) => {
        look(call.cpu, call.args)
        return convertTables(call)
      },
    },
  })
}

describe('SetVirtualAddressMap', () => {
  test('gets the whole firmware map, in place at its physical address', () => {
    let passed: MemoryDescriptor[] = []
    const { kernel, calls } = bootLooking((cpu, [size, stride, , address]) => {
      passed = decodeMemoryMap(cpu.readBytes(address!, Number(size)), Number(stride))
    })
    const { memmap } = kernel.requireEfi.info
    expect(calls[0]!.args).toEqual([BigInt(MAP.length * STRIDE), 48n, 1n, BigInt(memmap)])
    const withoutVirtual = passed.map((each) => Object.assign({}, each, { virtualStart: 0n }))
    expect(withoutVirtual).toEqual(MAP)
  })

  test('is told a virtual address for runtime regions alone', () => {
    let passed: MemoryDescriptor[] = []
    bootLooking((cpu, [size, stride, , address]) => {
      passed = decodeMemoryMap(cpu.readBytes(address!, Number(size)), Number(stride))
    })
    const told = passed.filter(({ virtualStart }) => virtualStart !== 0n)
    expect(told.map(({ physicalStart }) => physicalStart)).toEqual([
      RUNTIME_DATA,
      RUNTIME_CODE,
      FLASH,
    ])
    expect(told[0]!.virtualStart).toBe(inDirectMap(RUNTIME_DATA))
    expect(told[1]!.virtualStart).toBe(inDirectMap(RUNTIME_CODE))
  })

  test('is called where it was at boot, once', () => {
    const { calls } = bootLooking(() => undefined)
    expect(calls).toMatchObject([
      { service: 'SetVirtualAddressMap', rip: BigInt(gateOf('SetVirtualAddressMap')) },
    ])
  })

  test('that fails is the end of the kernel', () => {
    const services = { SetVirtualAddressMap: () => EfiStatus.UNSUPPORTED }
    const failing = (): unknown => boot({ strategies: [converted], services })
    expect(failing).toThrow(KernelPanic)
    expect(failing).toThrow('EFI call to SetVirtualAddressMap() failed! (EFI_UNSUPPORTED)')
  })

  test('is not reached where no virtual region holds the system table', () => {
    const withoutSystab = strategyOf('virtual', () => ({
      virtualMap: (kernel: Kernel) =>
        ioremapped(kernel).map((each) =>
          each.physicalStart === RUNTIME_DATA
            ? Object.assign({}, each, { virtualStart: 0n })
            : each,
        ),
    }))
    const small = smallMachine()
    const booting = (): unknown => bootOn(small, { strategies: [withoutSystab] })
    expect(booting).toThrow(KernelPanic)
    expect(small.calls).toEqual([])
    expect(() => boot({ strategies: [withoutSystab] })).toThrow('BUG_ON(!efi.systab)')
  })

  test('leaves the kernel in virtual mode, calling what the converted tables say', () => {
    const { kernel, calls } = boot({ strategies: [converted] })
    expect(kernel.requireEfi).toMatchObject({
      virtualMode: true,
      systab: inDirectMap(SYSTEM_TABLE),
    })
    new EfiServices(kernel, kernel.bootCpu, 'stack').getTime().run()
    expect(calls.at(-1)).toMatchObject({
      service: 'GetTime',
      rip: inDirectMap(gateOf('GetTime')),
      cr3: kernel.tasks[0]!.tables.root,
    })
  })

  test('is never called by a physical strategy, whose calls go where the functions were at boot', () => {
    const { kernel, calls } = boot()
    new EfiServices(kernel, kernel.bootCpu, 'stack').getTime().run()
    expect(calls).toMatchObject([{ service: 'GetTime', rip: BigInt(gateOf('GetTime')) }])
    expect(kernel.requireEfi.virtualMode).toBe(false)
  })
})

/** Which pages around the runtime code the direct map makes executable: data, code, end and neighbours of their 2 MiB page. */
function executablePages(kernel: Kernel): boolean[] {
  return [RUNTIME_DATA, RUNTIME_CODE, 0x85f_f000, 0x860_0000, 0x83f_f000].map((physical) => {
    const found = inSwapper(kernel, inDirectMap(physical))
    return found.status === 'mapped' && found.executable
  })
}

describe('the early physical mode', () => {
  test('borrows PML4 entry 0 of swapper_pg_dir from the direct map, and gives it back empty', () => {
    let inside: bigint[] = []
    const { kernel } = bootLooking(({ machine, cr3 }) => {
      inside = [machine.memory.read64(cr3), machine.memory.read64(cr3 + 272 * 8)]
    })
    expect(inside[0]).not.toBe(0n)
    expect(inside[0]).toBe(inside[1])
    expect(kernel.tables.swapper.rootEntry(0)).toBe(0n)
  })

  test('reaches what the direct map has at its physical address, and neither device nor hole', () => {
    const seen: unknown[] = []
    bootLooking((cpu) => {
      for (const physical of [0x500_0000n, BigInt(RAM_END), BigInt(FLASH)]) {
        seen.push(inspectAddress(cpu.translationContext(), physical).status)
      }
    })
    expect(seen).toEqual(['mapped', 'not-present', 'not-present'])
  })

  test('makes whole 2 MiB pages around runtime code executable, and takes that back', () => {
    let inside: boolean[] = []
    let started: Kernel | undefined
    const watched = strategyOf('virtual', () => ({
      virtualMap: (kernel: Kernel) => {
        started = kernel
        return ioremapped(kernel)
      },
    }))
    const { kernel } = boot({
      strategies: [watched],
      services: {
        SetVirtualAddressMap: (call) => {
          inside = executablePages(started!)
          return convertTables(call)
        },
      },
    })
    expect(inside).toEqual([true, true, true, false, false])
    // What stays executable is what runtime_code_page_mkexec() makes so afterwards: the code itself.
    expect(executablePages(kernel)).toEqual([false, true, false, false, false])
  })

  test.each([true, false])(
    'calls with interrupts off, and gives back what they were: %s',
    (interruptFlag) => {
      let after: boolean | undefined
      const ready = strategyOf('virtual', () => ({
        virtualMap: (kernel: Kernel) => {
          kernel.bootCpu.interruptFlag = interruptFlag
          kernel.hooks.callLeft.tap('test', ({ cpu }) => (after = cpu.interruptFlag))
          return ioremapped(kernel)
        },
      }))
      const { calls } = boot({ strategies: [ready] })
      expect(calls[0]!.interruptFlag).toBe(false)
      expect(after).toBe(interruptFlag)
    },
  )

  test('leaves no low translation behind in the TLB', () => {
    let inside: unknown
    const { machine } = bootLooking((cpu) => {
      cpu.read8(BigInt(RUNTIME_DATA))
      inside = cpu.tlb.peek(BigInt(RUNTIME_DATA))
    })
    expect(inside).toMatchObject({ frame: RUNTIME_DATA / 4096 })
    expect(machine.bootCpu.tlb.peek(BigInt(RUNTIME_DATA))).toBeUndefined()
    expect(machine.bootCpu.tlb.peek(BigInt(gateOf('SetVirtualAddressMap')))).toBeUndefined()
  })

  test('is over with the flushes of both ways, and no write to CR3', () => {
    let counters: { cr3Writes: number; globalFlushes: number } | undefined
    const counting = strategyOf('virtual', () => ({
      virtualMap: (kernel: Kernel) => {
        kernel.hooks.callLeft.tap('test', (call) => (counters = { ...call.counters }))
        return ioremapped(kernel)
      },
    }))
    boot({ strategies: [counting] })
    // Two toggles of CR4.PGE a flush: of the one region of code and of the swapped entry, on the way in and on the way out.
    expect(counters).toMatchObject({ cr3Writes: 0, globalFlushes: 8 })
  })
})

/** What {@link efiIoremap} does with a region in phase `efi`. */
function remap(
  region: MemoryDescriptor,
  more: readonly MemoryDescriptor[] = [],
): { kernel: Kernel; address: bigint } {
  let address = 0n
  const asking = strategyOf('physical', () => ({
    setup: (kernel: Kernel) => {
      address = efiIoremap(kernel, region)
    },
  }))
  const { kernel } = boot({ strategies: [asking], map: [...MAP, ...more] })
  return { kernel, address }
}

describe('efi_ioremap()', () => {
  test('leaves a region where the direct map has it', () => {
    const { kernel, address } = remap(
      descriptor(MemoryType.RuntimeServicesCode, RUNTIME_CODE, RUNTIME_CODE_END, RUNTIME_WB),
    )
    expect(address).toBe(inDirectMap(RUNTIME_CODE))
    expect(inSwapper(kernel, address)).toMatchObject({ physical: RUNTIME_CODE, patIndex: 0 })
  })

  test('puts MMIO that the direct map does not reach into vmalloc space, UC-', () => {
    const { kernel, address } = remap(
      descriptor(MemoryType.MemoryMappedIO, FLASH, 2 ** 32, RUNTIME_UC),
    )
    expect(address >> 39n).toBe(0xffff_c900_0000_0000n >> 39n)
    const first = inSwapper(kernel, address)
    expect(first).toMatchObject({ physical: FLASH })
    expect(first.status === 'mapped' && PAT_LINUX[first.patIndex]).toBe(MemoryKind.UCMinus)
    expect(inSwapper(kernel, address + 0x3f_ffffn)).toMatchObject({ physical: 2 ** 32 - 1 })
    expect(inSwapper(kernel, inDirectMap(FLASH)).status).toBe('not-present')
  })

  test('extends the direct map for memory that it does not reach', () => {
    const region = descriptor(MemoryType.RuntimeServicesData, 0x2000_0000, 0x2001_0000, RUNTIME_WB)
    const { kernel, address } = remap(region, [region])
    expect(address).toBe(inDirectMap(0x2000_0000))
    expect(inSwapper(kernel, address + 0xffffn)).toMatchObject({
      physical: 0x2000_ffff,
      executable: false,
      global: true,
    })
    expect(inSwapper(kernel, address + 0x1_0000n).status).toBe('not-present')
    expect(kernel.tables.directMapEnds.lowEnd).toBe(RAM_END)
  })

  test('takes a region between the end of low memory and 4 GiB for unmapped, whatever is above', () => {
    const high = descriptor(MemoryType.ConventionalMemory, 2 ** 32, 2 ** 32 + 0x100_0000)
    const { kernel, address } = remap(
      descriptor(MemoryType.MemoryMappedIO, FLASH, 2 ** 32, RUNTIME_UC),
      [high],
    )
    expect(address).not.toBe(inDirectMap(FLASH))
    expect(inSwapper(kernel, inDirectMap(2 ** 32)).status).toBe('mapped')
  })
})

test('runtime code in the direct map is executable afterwards, and nothing else of it is', () => {
  const { kernel } = boot({ strategies: [converted] })
  for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
    expect(inSwapper(kernel, region.virtualStart)).toMatchObject({
      executable: region.type === MemoryType.RuntimeServicesCode,
    })
  }
})
