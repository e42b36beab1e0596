import { type FrameOwner, PAGE_SIZE, phys } from '@trapdoor/core'
import { LAYOUT_FIXED_ROOT, type StrategyDefinition, StrategyRefusal } from '@trapdoor/kernel'
import { isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { codeExecutable, rwx, RuntimeTables } from './runtime-tables.ts'

/** What boot.efi has room for. */
const MAP_BYTES = 4096
/** The constant that turns the new physical addresses into virtual ones. */
const KERNEL_BASE = 0xffff_8080_0000_0000n

/** Whose the memory is that firmware was moved to. */
const MOVED: FrameOwner = { kind: 'firmware', name: 'moved runtime services' }

/** Code and data move; devices cannot. */
function isMoved({ type }: MemoryDescriptor): boolean {
  return type === MemoryType.RuntimeServicesCode || type === MemoryType.RuntimeServicesData
}

/** macOS: runtime memory is moved to lie in one piece behind the kernel. */
export const macos: StrategyDefinition = {
  name: 'macos',
  title:
    'macOS: boot.efi copies runtime memory into one piece after SetVirtualAddressMap, and VA = new PA | a constant',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: [
    'OpenCore manual, Booter quirks: AvoidRuntimeDefrag (secondary: boot.efi’s source is not public)',
  ],
  create: () => {
    let tables: RuntimeTables | undefined
    return {
      serialised: true,
      setup: (kernel) => {
        const efi = kernel.requireEfi
        const regions = efi.memoryMap.filter(isRuntime)
        if (regions.length * efi.info.memdescSize > MAP_BYTES) {
          throw new StrategyRefusal(`the runtime map has more than ${MAP_BYTES} bytes`)
        }
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
            memory.owners.set(frame, frame + region.numberOfPages, MOVED)
          }
          const moved = { ...region, physicalStart: phys(to) }
          tables.map(moved, region.virtualStart, codeExecutable(region))
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
