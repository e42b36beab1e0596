import { type Architecture, IA32, X64 } from '@trapdoor/uefi'
import { FIVE_LEVEL, FOUR_LEVEL, type PagingMode, virt, type VirtualAddress } from '@trapdoor/core'

/** A linear address of a kernel, whose layout may have 57 bits. Throws CORE_NOT_CANONICAL. */
export function kernelAddress(value: bigint | number): VirtualAddress {
  return virt(value, 57)
}

/** Where a kernel keeps what in its half of the address space (Documentation/x86/x86_64/mm.txt, arch/x86/mm/init_32.c). Ends are exclusive. */
export interface AddressSpaceLayout {
  readonly name: string
  readonly mode: PagingMode
  /** PAGE_OFFSET: the direct map of all memory. */
  readonly pageOffset: VirtualAddress
  /** End of the window that the direct map may grow to. */
  readonly pageOffsetEnd: VirtualAddress
  /** vmalloc and ioremap. */
  readonly vmallocStart: VirtualAddress
  readonly vmallocEnd: VirtualAddress
  /** __START_KERNEL_map: kernel text and data. */
  readonly startKernelMap: VirtualAddress
  readonly modulesStart: VirtualAddress
  /** Boot-time fixmap slots that early_ioremap uses. */
  readonly fixmapStart: VirtualAddress
  /** End of the modules' space, where it is not that of the fixmap. */
  readonly modulesEnd?: VirtualAddress
  /** Kernel text and data are where the direct map has them, as on i386. */
  readonly imageInDirectMap?: true
  /** MAXMEM: physical memory from here on (bytes) is not in the direct map, and is not the kernel's own. Default: all is low memory. */
  readonly lowMemoryEnd?: number
  /** Physical memory from here on (bytes) is not used. Default: all is. */
  readonly memoryEnd?: number
  /** Bytes that kernel text lies above where it is linked, from KASLR; default none. */
  readonly textOffset?: number
  /** Whether the kernel randomizes it, where the command line does not say `nokaslr` (Linux 4.8 and later). */
  readonly kaslr?: true
  /** The kernel's half of the root is complete from the boot on, so that copies of it never lack an entry (preallocate_vmalloc_pages() of Linux 5.9, and systems with a fixed kernel map). */
  readonly rootEntriesAtBoot?: true
  /** The layout that takes its place where the CPU has 5-level paging and the command line does not say `no5lvl`. */
  readonly fiveLevel?: AddressSpaceLayout
}

/** What a kernel with this layout is built for. */
export function kernelArchitecture({ mode }: AddressSpaceLayout): Architecture {
  return mode.linearBits === 32 ? IA32 : X64
}

const UPPER = {
  startKernelMap: virt(0xffff_ffff_8000_0000n),
  modulesStart: virt(0xffff_ffff_a000_0000n),
  fixmapStart: virt(0xffff_ffff_ff20_0000n),
}

/** x86-64 from 2.6.31 to 4.19 (before KASLR moved things). */
export const LAYOUT_2_6_35: AddressSpaceLayout = {
  name: '2.6.35',
  mode: FOUR_LEVEL,
  pageOffset: virt(0xffff_8800_0000_0000n),
  pageOffsetEnd: virt(0xffff_c800_0000_0000n),
  vmallocStart: virt(0xffff_c900_0000_0000n),
  vmallocEnd: virt(0xffff_e900_0000_0000n),
  ...UPPER,
}

/** x86-64 from 4.8 to 4.19: the same places where nothing is random (kernel_randomize_memory(), arch/x86/mm/kaslr.c). */
export const LAYOUT_4_8: AddressSpaceLayout = { ...LAYOUT_2_6_35, name: '4.8', kaslr: true }

/** Systems other than Linux: the same places, with every root entry of the kernel's half there from the boot on. */
export const LAYOUT_FIXED_ROOT: AddressSpaceLayout = {
  ...LAYOUT_2_6_35,
  name: 'with a fixed root',
  rootEntriesAtBoot: true,
}

/** x86-64 up to 2.6.26: the direct map began at PML4 entry 258, and was half as long. */
export const LAYOUT_2_6_26: AddressSpaceLayout = {
  name: '2.6.26',
  mode: FOUR_LEVEL,
  pageOffset: virt(0xffff_8100_0000_0000n),
  pageOffsetEnd: virt(0xffff_c100_0000_0000n),
  vmallocStart: virt(0xffff_c200_0000_0000n),
  vmallocEnd: virt(0xffff_e200_0000_0000n),
  ...UPPER,
}

/** x86-64 from 4.20 on, with five levels: the direct map begins at entry 273 of the root, as with four. */
export const LAYOUT_4_20_LA57: AddressSpaceLayout = {
  name: '4.20 with 5-level paging',
  kaslr: true,
  mode: FIVE_LEVEL,
  pageOffset: kernelAddress(0xff11_0000_0000_0000n),
  pageOffsetEnd: kernelAddress(0xff91_0000_0000_0000n),
  vmallocStart: kernelAddress(0xffa0_0000_0000_0000n),
  vmallocEnd: kernelAddress(0xffd2_0000_0000_0000n),
  ...UPPER,
}

/** x86-64 from 4.20 on: the LDT took the root entry in which the direct map had begun (commit d52888aa2753). */
export const LAYOUT_4_20: AddressSpaceLayout = {
  name: '4.20',
  kaslr: true,
  mode: FOUR_LEVEL,
  pageOffset: virt(0xffff_8880_0000_0000n),
  pageOffsetEnd: virt(0xffff_c880_0000_0000n),
  vmallocStart: virt(0xffff_c900_0000_0000n),
  vmallocEnd: virt(0xffff_e900_0000_0000n),
  ...UPPER,
  fiveLevel: LAYOUT_4_20_LA57,
}
