import {
  BROADWELL,
  MemoryKind,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  PageFault,
  PageFaultBit,
  PAT_LINUX,
  virt,
} from '@trapdoor/core'
import { MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  createKernelHooks,
  type Kernel,
  KernelPanic,
  LAYOUT_2_6_26,
  LAYOUT_2_6_35,
} from '../src/index.ts'
import { boot, bootOn, inSwapper } from './booted.ts'
import { descriptor, FLASH, MAP, RAM_END, RUNTIME_CODE, smallMachine } from './small-machine.ts'
import { thrownBy } from './thrown.ts'

const PAGE_OFFSET = 0xffff_8800_0000_0000n
const VMALLOC_START = 0xffff_c900_0000_0000n
const START_KERNEL = 0xffff_ffff_8100_0000n

/** Does something when a kernel enters a phase. */
function during<T>(phase: Kernel['phase'], work: (kernel: Kernel) => T): T | undefined {
  const hooks = createKernelHooks()
  let result: T | undefined
  hooks.phase.tap('test', (kernel) => {
    if (kernel.phase === phase) result = work(kernel)
  })
  boot({ hooks })
  return result
}

const faultOf = (work: () => unknown): PageFault => thrownBy(PageFault, work)

describe('the direct map', () => {
  test('covers everything up to the end of RAM, firmware and holes included', () => {
    const { kernel } = boot()
    expect(kernel.tables.directMapEnds).toEqual({ lowEnd: RAM_END, highEnd: RAM_END })
    for (const physical of [0, 0xa_0000, 0x100_0000, RUNTIME_CODE, RAM_END - 1]) {
      expect(inSwapper(kernel, PAGE_OFFSET + BigInt(physical))).toMatchObject({
        status: 'mapped',
        physical,
      })
    }
    expect(inSwapper(kernel, PAGE_OFFSET + BigInt(RAM_END)).status).toBe('not-present')
    expect(inSwapper(kernel, PAGE_OFFSET + BigInt(FLASH)).status).toBe('not-present')
  })

  test('is writable, global, cached and not executable', () => {
    const { kernel } = boot()
    expect(inSwapper(kernel, PAGE_OFFSET + 0x500_0000n)).toMatchObject({
      writable: true,
      user: false,
      executable: false,
      global: true,
      patIndex: 0,
    })
  })

  test('is made of 2 MiB pages, and of small ones for the tail', () => {
    const { kernel } = boot()
    const sizeAt = (physical: number): number | undefined => {
      const found = inSwapper(kernel, PAGE_OFFSET + BigInt(physical))
      return found.status === 'mapped' ? found.pageSize : undefined
    }
    expect(sizeAt(0x500_0000)).toBe(PAGE_SIZE_2M)
    expect(sizeAt(0xfdf_f000)).toBe(PAGE_SIZE_2M)
    expect(sizeAt(0xfe0_0000)).toBe(4096)
    expect(sizeAt(RAM_END - 1)).toBe(4096)
  })

  test('goes on at 4 GiB where there is memory that high, with nothing for what lies between', () => {
    const map = [...MAP, descriptor(MemoryType.ConventionalMemory, 2 ** 32, 2 ** 32 + 0x801_1000)]
    const { kernel } = boot({ map })
    const { tables } = kernel
    expect(tables.directMapEnds).toEqual({ lowEnd: RAM_END, highEnd: 2 ** 32 + 0x801_1000 })
    expect(inSwapper(kernel, PAGE_OFFSET + 0x1_0000_0000n).status).toBe('mapped')
    expect(inSwapper(kernel, PAGE_OFFSET + 0x1_0801_0000n).status).toBe('mapped')
    expect(inSwapper(kernel, PAGE_OFFSET + 0x1_0801_1000n).status).toBe('not-present')
    expect(inSwapper(kernel, PAGE_OFFSET + 0x8000_0000n).status).toBe('not-present')
    // The test of efi_enter_virtual_mode() is about the end of a region alone.
    const ends = [RAM_END, RAM_END + 1, 2 ** 32, 2 ** 32 + 0x801_1000, 2 ** 32 + 0x801_2000]
    expect(ends.map((end) => tables.isDirectMapped(end))).toEqual([true, false, false, true, false])
  })

  test('has 1 GiB pages where the CPU has them', () => {
    const map = [
      ...MAP.filter(({ type }) => type !== MemoryType.MemoryMappedIO),
      descriptor(MemoryType.ConventionalMemory, 0x1000_0000, 0xc000_0000),
    ]
    const address = PAGE_OFFSET + 0x5000_0000n
    expect(inSwapper(boot({ map, features: BROADWELL }).kernel, address)).toMatchObject({
      pageSize: PAGE_SIZE_1G,
    })
    expect(inSwapper(boot({ map }).kernel, address)).toMatchObject({ pageSize: PAGE_SIZE_2M })
  })
})

describe('the image', () => {
  test('has text that can be executed and not written', () => {
    const { kernel } = boot()
    for (const offset of [0n, 0x3f_ffffn]) {
      expect(inSwapper(kernel, START_KERNEL + offset)).toMatchObject({
        physical: 0x100_0000 + Number(offset),
        writable: false,
        executable: true,
        global: true,
      })
    }
    const fault = faultOf(() => {
      kernel.bootCpu.write8(START_KERNEL, 0x90)
    })
    expect(fault.errorCode).toBe(PageFaultBit.Present | PageFaultBit.Write)
  })

  test('has data and bss that can be written and not executed', () => {
    const { kernel } = boot()
    for (const offset of [0x40_0000n, 0xff_ffffn]) {
      expect(inSwapper(kernel, START_KERNEL + offset)).toMatchObject({
        physical: 0x100_0000 + Number(offset),
        writable: true,
        executable: false,
      })
    }
    expect(inSwapper(kernel, START_KERNEL + 0x100_0000n).status).toBe('not-present')
  })

  test('is linked to the same addresses wherever it was loaded', () => {
    const map = [
      ...MAP.filter(({ physicalStart }) => physicalStart !== 0x10_0000),
      descriptor(MemoryType.ConventionalMemory, 0x260_0000, 0x800_0000),
    ]
    const { kernel } = boot({ map })
    expect(inSwapper(kernel, START_KERNEL)).toMatchObject({ physical: 0x260_0000 })
  })
})

describe('early_ioremap()', () => {
  test('maps pages for as long as they are used, offset and all', () => {
    const { kernel, machine } = boot()
    const { bootCpu: cpu, tables } = kernel
    machine.memory.write64(RUNTIME_CODE + 0xff8, 0x1122_3344_5566_7788n)
    let address = 0n
    const read = tables.withEarlyIoremap(cpu, BigInt(RUNTIME_CODE) + 0xff8n, 16, (at) => {
      address = at
      expect(inSwapper(kernel, at + 8n)).toMatchObject({ physical: RUNTIME_CODE + 0x1000 })
      return cpu.read64(at)
    })
    expect(read).toBe(0x1122_3344_5566_7788n)
    expect(address & 0xfffn).toBe(0xff8n)
    expect(faultOf(() => cpu.read64(address)).errorCode).toBe(0)
    expect(inSwapper(kernel, address + 8n).status).toBe('not-present')
  })

  test('gives two users at once two places, and takes the first again after', () => {
    const { kernel } = boot()
    const { bootCpu: cpu, tables } = kernel
    const places: bigint[] = []
    tables.withEarlyIoremap(cpu, 0x1000n, 4, (outer) =>
      tables.withEarlyIoremap(cpu, 0x2000n, 4, (inner) => places.push(outer, inner)),
    )
    tables.withEarlyIoremap(cpu, 0x3000n, 4, (again) => places.push(again))
    expect(places[1]! - places[0]!).toBe(64n * 4096n)
    expect(places[2]).toBe(places[0])
  })

  test('writes an address above MAXPHYADDR into the entry as it is, which is a fault with RSVD', () => {
    const { kernel } = boot()
    const { bootCpu: cpu, tables } = kernel
    const virtualTable = 0xffff_8800_0840_0100n
    const fault = faultOf(() =>
      tables.withEarlyIoremap(cpu, virtualTable, 8, (at) => cpu.read64(at)),
    )
    expect(fault.errorCode & PageFaultBit.Reserved).toBe(PageFaultBit.Reserved)
    expect(fault.steps.at(-1)!.value & 0x7fff_ffff_ffff_f000n).toBe(0x7fff_8800_0840_0000n)
  })

  test('has room for 256 KiB and panics beyond', () => {
    const { kernel } = boot()
    const map = (physical: bigint, bytes: number): unknown =>
      kernel.tables.withEarlyIoremap(kernel.bootCpu, physical, bytes, () => 'mapped')
    expect(map(0x1000n, 64 * 4096)).toBe('mapped')
    expect(() => map(0x1001n, 64 * 4096)).toThrow(KernelPanic)
  })
})

describe('ioremap()', () => {
  test('maps devices UC- into vmalloc space, page by page, with a guard page between', () => {
    const { kernel } = boot()
    const first = kernel.tables.ioremap(FLASH + 0x10, 0x1000)
    const second = kernel.tables.ioremap(FLASH + 0x8000, 0x1000)
    expect(first >= VMALLOC_START && first < 0xffff_e900_0000_0000n).toBe(true)
    // From byte 0x10 of the first page to byte 0x10 of the second, and then the guard.
    expect(second - first).toBe(3n * 4096n - 0x10n)
    expect(inSwapper(kernel, second - 4096n).status).toBe('not-present')
    const found = inSwapper(kernel, first)
    expect(found).toMatchObject({
      physical: FLASH + 0x10,
      pageSize: 4096,
      executable: false,
      global: true,
    })
    expect(found.status === 'mapped' && PAT_LINUX[found.patIndex]).toBe(MemoryKind.UCMinus)
  })

  test('and whoever claims a place in vmalloc space do not meet', () => {
    const { tables } = boot().kernel
    const next = tables.reserveVmalloc(4096) + 2n * 4096n
    expect(tables.claimVmalloc(next - 4096n, 4096)).toBe(false)
    expect(tables.claimVmalloc(next + 0x10_0000n, 0x2000)).toBe(true)
    expect(tables.claimVmalloc(next + 0x10_0000n, 0x2000)).toBe(false)
    expect(tables.claimVmalloc(LAYOUT_2_6_35.vmallocEnd, 4096)).toBe(false)
    expect(tables.reserveVmalloc(4096)).toBe(next + 0x10_3000n)
  })
})

describe('set_memory_*()', () => {
  const target = virt(PAGE_OFFSET + 0x500_1000n)

  test('splits the large page that it needs a part of, and leaves the rest as it was', () => {
    const { kernel } = boot()
    kernel.tables.setMemoryUncached(target, 4096)
    expect(inSwapper(kernel, target)).toMatchObject({ pageSize: 4096, patIndex: 2 })
    expect(inSwapper(kernel, target + 4096n)).toMatchObject({
      pageSize: 4096,
      patIndex: 0,
      physical: 0x500_2000,
      executable: false,
      global: true,
    })
  })

  test('makes executable and takes it back', () => {
    const { kernel } = boot()
    kernel.tables.setMemoryExecutable(target, 4096, true)
    expect(inSwapper(kernel, target)).toMatchObject({ executable: true })
    kernel.tables.setMemoryExecutable(target, 4096, false)
    expect(inSwapper(kernel, target)).toMatchObject({ executable: false })
  })

  test('leaves no CPU an old translation', () => {
    const { kernel, machine } = boot({ cpus: 2 })
    for (const cpu of machine.cpus) {
      cpu.read8(target)
      expect(cpu.tlb.peek(target)).toBeDefined()
    }
    kernel.tables.setMemoryUncached(target, 4096)
    for (const cpu of machine.cpus) expect(cpu.tlb.peek(target)).toBeUndefined()
  })

  test('panics before the page allocator is up, as a split would need a page', () => {
    const early = during('mm_init', ({ tables }) =>
      thrownBy(KernelPanic, () => {
        tables.setMemoryUncached(target, 4096)
      }),
    )
    expect(early?.message).toMatch(/before the page allocator is up/)
  })
})

test('an entry that changed is fresh for whoever flushes, and stale for whoever does not', () => {
  const { kernel } = boot()
  const { bootCpu: cpu, tables } = kernel
  const address = tables.reserveVmalloc(4096)
  const [first, second] = [kernel.allocatePages('a', 1), kernel.allocatePages('b', 1)]
  kernel.machine.memory.write64(first, 1n)
  kernel.machine.memory.write64(second, 2n)
  const options = { global: true, replace: true }
  tables.swapper.mapRange(address, first, 4096, options)
  expect(cpu.read64(address)).toBe(1n)
  tables.swapper.mapRange(address, second, 4096, options)
  expect(cpu.read64(address)).toBe(1n)
  tables.flushAll()
  expect(cpu.read64(address)).toBe(2n)
})

describe('layouts', () => {
  test.each([
    { layout: LAYOUT_2_6_35, pageOffset: 0xffff_8800_0000_0000n, index: 272, vmalloc: 402 },
    { layout: LAYOUT_2_6_26, pageOffset: 0xffff_8100_0000_0000n, index: 258, vmalloc: 388 },
  ])('$layout.name: direct map at PML4 entry $index', ({ layout, pageOffset, index, vmalloc }) => {
    const { kernel } = boot({ layout })
    expect(kernel.tables.directMapAddress(0x1234)).toBe(pageOffset + 0x1234n)
    expect(inSwapper(kernel, pageOffset + 0x500_0000n)).toMatchObject({ physical: 0x500_0000 })
    const present = Array.from({ length: 512 }, (_, entry) => entry).filter(
      (entry) => kernel.tables.swapper.rootEntry(entry) !== 0n,
    )
    expect(present).toEqual([index, vmalloc, 511])
  })

  test('have the image, modules and fixmap at the same place', () => {
    const { startKernelMap, modulesStart, fixmapStart } = LAYOUT_2_6_35
    expect(LAYOUT_2_6_26).toMatchObject({ startKernelMap, modulesStart, fixmapStart })
  })
})

describe('a 64-bit variable of the kernel', () => {
  test('that is static is the same for every CPU', () => {
    const { kernel, machine } = boot({ cpus: 2 })
    const [first, second] = machine.cpus
    const variable = kernel.variable({ perCpu: false })
    variable.write(first!, 0x1122_3344_5566_7788n)
    expect(variable.read(second!)).toBe(0x1122_3344_5566_7788n)
  })

  test('that is per CPU is each CPU’s own', () => {
    const { kernel, machine } = boot({ cpus: 2 })
    const [first, second] = machine.cpus
    const variable = kernel.variable({ perCpu: true })
    variable.write(first!, 1n)
    variable.write(second!, 2n)
    expect([variable.read(first!), variable.read(second!)]).toEqual([1n, 2n])
  })

  test('has a place of its own, and starts as 0', () => {
    const { kernel, machine } = boot({ cpus: 2 })
    const [cpu] = machine.cpus
    const variables = Array.from({ length: 600 }, (_, index) =>
      kernel.variable({ perCpu: index < 300 }),
    )
    for (const [index, variable] of variables.entries()) {
      expect(variable.read(cpu!)).toBe(0n)
      variable.write(cpu!, BigInt(index) + 1n)
    }
    expect(variables.map((variable) => variable.read(cpu!))).toEqual(
      Array.from({ length: 600 }, (_, index) => BigInt(index) + 1n),
    )
  })

  test('that is per CPU is one of 512', () => {
    const { kernel } = boot()
    for (let index = 0; index < 512; index++) kernel.variable({ perCpu: true })
    expect(() => kernel.variable({ perCpu: true })).toThrow('at most 512 per-CPU variables')
  })

  test('needs the kernel’s half of the page tables', () => {
    const { kernel, machine } = boot()
    const variable = kernel.variable({ perCpu: false })
    machine.bootCpu.writeCr3(kernel.newPageTable('empty').root)
    machine.bootCpu.tlb.flushAll()
    expect(() => variable.read(machine.bootCpu)).toThrow(PageFault)
  })
})

describe('a task', () => {
  test('runs on page tables of its own, with the kernel’s upper half', () => {
    const { kernel, machine } = boot({ cpus: 2 })
    const roots = kernel.tasks.map(({ tables }) => tables.root)
    expect(new Set([...roots, kernel.tables.swapper.root]).size).toBe(3)
    expect(machine.cpus.map(({ cr3 }) => cr3)).toEqual(roots)
    for (const task of kernel.tasks) {
      for (let index = 256; index < 512; index++) {
        expect(task.tables.rootEntry(index)).toBe(kernel.tables.swapper.rootEntry(index))
      }
    }
  })

  test('has a page at 0x400000 that its user can read, and a kernel that he cannot', () => {
    const { kernel, machine } = boot({ cpus: 2 })
    const [first, second] = machine.cpus
    expect([first!.read32(0x40_0000n), second!.read32(0x40_0ffcn)]).toEqual([
      0x7a5c_0000, 0x7a5c_0001,
    ])
    first!.cpl = 3
    expect(first!.read32(0x40_0000n)).toBe(0x7a5c_0000)
    const fault = faultOf(() => first!.read8(kernel.tables.directMapAddress(0x500_0000)))
    expect(fault.errorCode).toBe(PageFaultBit.Present | PageFaultBit.User)
  })

  test('has a kernel stack in the direct map, which its CPU uses', () => {
    const { kernel, machine } = boot()
    const [task] = kernel.tasks
    expect(task!.stackTop - machine.bootCpu.rsp).toBe(256n)
    const found = inSwapper(kernel, task!.stackTop - 1n)
    expect(found.status === 'mapped' && machine.memory.owners.get(found.physical >> 12)?.name).toBe(
      'task stack of the first kernel',
    )
  })

  test('is known by name among the roots of the kernel', () => {
    const { kernel } = boot({ cpus: 2 })
    expect(kernel.roots.map(({ name }) => name)).toEqual([
      'swapper_pg_dir',
      'flat',
      'mm of task 0',
      'mm of task 1',
    ])
  })
})

test('a root in static data costs the image a page, one that is allocated the allocator', () => {
  const small = smallMachine()
  const { kernel } = bootOn(small)
  const { image } = kernel
  const fixed = kernel.staticPageTable('efi_pgd')
  expect(fixed.root >= image.base && fixed.root < image.base + 0x100_0000).toBe(true)
  const dynamic = kernel.newPageTable('efi_pgd')
  expect(small.machine.memory.owners.get(dynamic.root / 4096)?.name).toBe(
    'page tables of the first kernel',
  )
})

describe('what the kernel changes in live mappings', () => {
  test('is flushed on every CPU: nothing is outstanding, and no TLB holds what was', () => {
    const { kernel } = boot()
    expect(kernel.tables.swapper.outstanding).toEqual([])
    expect(kernel.machine.reportUnflushed()).toEqual([])
  })
})
