import { type FrameOwner, PAGE_SIZE, phys } from '@trapdoor/core'
import { LAYOUT_FIXED_ROOT, type StrategyDefinition } from '@trapdoor/kernel'
import { isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { rwx, type Rights, RuntimeTables } from './runtime-tables.ts'

/** The constant that turns the new physical addresses into virtual ones. */
const KERNEL_BASE = 0xffff_8080_0000_0000n

/** Whose the memory is that firmware was moved to, where it was nobody's before. */
const MOVED: FrameOwner = { kind: 'firmware', name: 'moved runtime services' }

/** Code and data move; devices cannot. */
function isMoved({ type }: MemoryDescriptor): boolean {
  return type === MemoryType.RuntimeServicesCode || type === MemoryType.RuntimeServicesData
}

/** efi_init() (osfmk/i386/AT386/model_dep.c): by the type alone, whatever a memory attributes table says. */
function rightsOf({ type }: MemoryDescriptor): Rights {
  const isCode = type === MemoryType.RuntimeServicesCode
  return {
    writable: !isCode,
    executable: isCode,
    cacheDisable: type === MemoryType.MemoryMappedIO,
  }
}

/**
 * macOS: runtime memory is moved to lie in one piece behind the kernel, and mapped by type: code cannot be written, so that firmware whose images have their data in regions of code faults.
 *
 * Nothing refuses a long map. The OpenCore manual has 4096 bytes for its limit; xnu's efi_init() and i386_vm_init() read as many descriptors as boot_args say, from 2007 (xnu-1228) to today, and leave
 * off after 128 kinds of memory (PMAP_MEMORY_REGIONS_SIZE) with a warning. What boot.efi does with a longer one is not public.
 */
export const macos: StrategyDefinition = {
  name: 'macos',
  title:
    'macOS: boot.efi copies runtime memory into one piece after SetVirtualAddressMap, and VA = new PA | a constant',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: [
    'xnu-11417 osfmk/i386/AT386/model_dep.c: efi_init(); osfmk/i386/i386_vm_init.c: i386_vm_init()',
    'OpenCore manual, Booter quirks: AvoidRuntimeDefrag, RebuildAppleMemoryMap (secondary: boot.efi’s source is not public)',
  ],
  create: () => {
    let tables: RuntimeTables | undefined
    return {
      serialised: true,
      setup: (kernel) => {
        const efi = kernel.requireEfi
        const regions = efi.memoryMap.filter(isRuntime)
        const pages = regions
          .filter(isMoved)
          .reduce((sum, { numberOfPages }) => sum + numberOfPages, 0)
        let next: number = kernel.allocatePages('runtime services', pages)
        const moves = regions.map((region) => {
          const to = isMoved(region) ? next : region.physicalStart
          if (isMoved(region)) next += region.numberOfPages * PAGE_SIZE
          return { region: { ...region, virtualStart: KERNEL_BASE + BigInt(to) }, to }
        })
        const before = new RuntimeTables(kernel, 'boot.efi')
        before.mapEverything(efi.memoryMap)
        for (const { region } of moves) before.map(region, region.virtualStart, rwx(region))
        before.setVirtualAddressMap(moves.map(({ region }) => region))
        // Only now: what firmware has written while it converted itself has to come along.
        const { memory } = kernel.machine
        tables = new RuntimeTables(kernel, 'kernel_pmap')
        for (const { region, to } of moves) {
          if (isMoved(region)) {
            const frame = to / PAGE_SIZE
            memory.copyFrames(memory, region.physicalStart / PAGE_SIZE, region.numberOfPages, frame)
            const from = region.physicalStart / PAGE_SIZE
            for (let page = 0; page < region.numberOfPages; page++) {
              const owner = memory.owners.get(from + page) ?? MOVED
              memory.owners.set(frame + page, frame + page + 1, owner)
            }
          }
          const moved = { ...region, physicalStart: phys(to) }
          tables.map(moved, region.virtualStart, rightsOf(region))
        }
      },
      enter: ({ cpu }) => {
        tables!.enter(cpu)
      },
      leave: (call) => {
        tables!.leave(call)
      },
    }
  },
}
