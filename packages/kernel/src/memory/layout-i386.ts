import { BITS_32_PSE, PAE, virt } from '@trapdoor/core'
import { type AddressSpaceLayout, kernelAddress } from './layout.ts'

const MEBIBYTE = 2 ** 20
const GIBIBYTE = 2 ** 30
/** VMALLOC_OFFSET: a hole behind the direct map, so that running over its end is a fault. */
const VMALLOC_OFFSET = 8 * MEBIBYTE
/** Modules are vmalloc()ed; here they get the end of that space. */
const MODULES_BYTES = BigInt(16 * MEBIBYTE)

/** What i386 kernels with 3 GiB for processes have in common (arch/x86/include/asm/pgtable_32_types.h, fixmap.h, 2.6.35). */
const SPLIT_3G = {
  pageOffset: virt(0xc000_0000n),
  pageOffsetEnd: virt(0xf800_0000n),
  // Where memory ends decides: see placeVmalloc().
  vmallocStart: virt(0xf880_0000n),
  startKernelMap: virt(0xc000_0000n),
  fixmapStart: virt(0xffe0_0000n),
  imageInDirectMap: true,
  lowMemoryEnd: 896 * MEBIBYTE,
} as const

/** Where vmalloc space ends, and modules with it: two pages below the window of kmap(). */
function vmallocUpTo(
  end: bigint,
): Pick<AddressSpaceLayout, 'vmallocEnd' | 'modulesStart' | 'modulesEnd'> {
  return {
    vmallocEnd: virt(end - MODULES_BYTES),
    modulesStart: virt(end - MODULES_BYTES),
    modulesEnd: virt(end),
  }
}

/** i386 with two levels of page tables and 4 MiB pages: 4 GiB of memory at most, no NX (CONFIG_HIGHMEM4G). */
export const LAYOUT_I386: AddressSpaceLayout = {
  ...SPLIT_3G,
  name: 'i386',
  mode: BITS_32_PSE,
  ...vmallocUpTo(0xff7f_e000n),
  memoryEnd: 2 ** 32,
}

/** i386 with PAE: entries of 64 bits, 64 GiB of memory at most (CONFIG_HIGHMEM64G). */
export const LAYOUT_I386_PAE: AddressSpaceLayout = {
  ...SPLIT_3G,
  name: 'i386 with PAE',
  mode: PAE,
  ...vmallocUpTo(0xff9f_e000n),
  memoryEnd: 2 ** 36,
}

/** GiB of the 4 that a process has for itself on i386. */
export type UserGibibytes = 1 | 2 | 3

/**
 * The same kernel with so much for processes (CONFIG_VMSPLIT_3G, _2G, _1G): the less they have, the lower its direct map begins, and the larger it is. There are two more in Linux that PAE cannot
 * have, as an entry of its root is 1 GiB.
 */
export function splitAt(layout: AddressSpaceLayout, user: UserGibibytes): AddressSpaceLayout {
  const pageOffset = virt(BigInt(user * GIBIBYTE))
  return {
    ...layout,
    pageOffset,
    startKernelMap: pageOffset,
    lowMemoryEnd: Number(layout.pageOffsetEnd - pageOffset),
  }
}

/** VMALLOC_START: vmalloc space begins behind the direct map, whose end is the end of memory or that of low memory. `endOfMemory` in bytes. */
export function placeVmalloc(layout: AddressSpaceLayout, endOfMemory: number): AddressSpaceLayout {
  if (layout.lowMemoryEnd === undefined) return layout
  const lowEnd = Math.min(layout.lowMemoryEnd, endOfMemory)
  const start = layout.pageOffset + BigInt(Math.ceil(lowEnd / VMALLOC_OFFSET + 1) * VMALLOC_OFFSET)
  return { ...layout, vmallocStart: kernelAddress(start) }
}
