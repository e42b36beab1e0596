import { PAGE_SIZE, phys, type PhysicalAddress } from '@trapdoor/core'
import type { Kernel } from '../kernel.ts'
import { endOfRam } from '../memory/e820.ts'
import { syncGlobalPgds } from '../task/task.ts'

/** Bytes of a memory section that comes and goes at once (SECTION_SIZE_BITS 27). */
const SECTION_BYTES = 0x800_0000

/**
 * add_memory(): a section of RAM that the machine did not have at boot, behind all that it has, and where physical addresses reach so far behind the next entry of the root
 * of the page tables. Unless it is high memory of i386, its direct map appears in `swapper_pg_dir` and in the processes, and nowhere else. From then on kmalloc() hands it out. Returns its physical address.
 */
export function addMemory(kernel: Kernel): PhysicalAddress {
  const { tables, machine } = kernel
  const first = Math.ceil(endOfRam(kernel.e820) / SECTION_BYTES) * SECTION_BYTES
  const limit = 2 ** machine.features.maxPhysicalAddressBits
  const left = tables.bytesOfRootEntry - (tables.directMapAddress(first) % tables.bytesOfRootEntry)
  const behind = first + Math.ceil(Number(left) / SECTION_BYTES) * SECTION_BYTES
  const start = behind + SECTION_BYTES > limit ? first : behind
  const end = start + SECTION_BYTES
  machine.memory.owners.set(start / PAGE_SIZE, end / PAGE_SIZE, kernel.owner('hot-added memory'))
  kernel.print(`memory section added at 0x${start.toString(16)}`)
  // High memory, which the kernel has no addresses for.
  if (end > (tables.layout.lowMemoryEnd ?? Infinity)) return phys(start)
  tables.initMemoryMapping(start, end)
  syncGlobalPgds(kernel)
  kernel.strategy?.instance.memoryGoingOnline?.(kernel)
  const areas = kernel.argumentAreas
  const used = areas.length * (areas[0]?.bytes ?? 0)
  const firstFrame = start / PAGE_SIZE
  machine.memory.owners.set(
    firstFrame,
    firstFrame + used / PAGE_SIZE,
    kernel.owner('kmalloc buffer'),
  )
  for (const area of areas) {
    area.moveTo('kmalloc', tables.directMapAddress(start + area.cpu * area.bytes))
  }
  return phys(start)
}
