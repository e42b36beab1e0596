import type { Kernel } from '../kernel.ts'
import { kernelAddress } from '../memory/layout.ts'
import { syncGlobalPgds } from '../task/task.ts'

/** How far apart modules are that were loaded long after one another: beyond the 1 GiB that one page-directory-pointer entry maps. */
const MODULES_LATER = 0x2000_0000n

/**
 * vmalloc() on a system that has run for long: addresses behind the next entry of the root of the page tables, which `swapper_pg_dir` and the processes get (vmalloc_sync_all(),
 * arch/x86/mm/fault.c) and nobody else.
 */
export function growVmalloc(kernel: Kernel): void {
  const { tables } = kernel
  const first = tables.rootIndex(tables.reserveVmalloc(0))
  const { bytesOfRootEntry: bytesOfEntry } = tables
  const next = kernelAddress((tables.reserveVmalloc(0) / bytesOfEntry + 1n) * bytesOfEntry)
  if (tables.rootIndex(next) !== first) tables.claimVmalloc(next, 0)
  for (const area of kernel.argumentAreas) area.mapAgain('vmalloc')
  syncGlobalPgds(kernel)
  kernel.print(`vmalloc space grew to 0x${next.toString(16)}`)
}

/**
 * load_module(): modules behind the first gigabyte of the module space, or in the second half of a small one. On i386 they are vmalloc()ed, and without PAE an entry of the root may be new: processes get
 * it (vmalloc_fault(), arch/x86/mm/fault.c), and nobody else.
 */
export function loadModules(kernel: Kernel): void {
  const { modulesStart, modulesEnd } = kernel.tables.layout
  const later = modulesEnd === undefined ? MODULES_LATER : (modulesEnd - modulesStart) / 2n
  const start = kernelAddress(modulesStart + later)
  for (const area of kernel.argumentAreas) area.mapAgain('module', start)
  syncGlobalPgds(kernel)
  kernel.print(`modules loaded at 0x${start.toString(16)}`)
}
