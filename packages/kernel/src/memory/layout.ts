import { virt, type VirtualAddress } from '@trapdoor/core'

/** Where a kernel keeps what in its half of the address space (Documentation/x86/x86_64/mm.txt). Ends are exclusive. */
export interface AddressSpaceLayout {
  readonly name: string
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
}

const UPPER = {
  startKernelMap: virt(0xffff_ffff_8000_0000n),
  modulesStart: virt(0xffff_ffff_a000_0000n),
  fixmapStart: virt(0xffff_ffff_ff20_0000n),
}

/** x86-64 from 2.6.31 to 4.19 (before KASLR moved things). */
export const LAYOUT_2_6_35: AddressSpaceLayout = {
  name: '2.6.35',
  pageOffset: virt(0xffff_8800_0000_0000n),
  pageOffsetEnd: virt(0xffff_c800_0000_0000n),
  vmallocStart: virt(0xffff_c900_0000_0000n),
  vmallocEnd: virt(0xffff_e900_0000_0000n),
  ...UPPER,
}

/** x86-64 up to 2.6.26: the direct map began at PML4 entry 258, and was half as long. */
export const LAYOUT_2_6_26: AddressSpaceLayout = {
  name: '2.6.26',
  pageOffset: virt(0xffff_8100_0000_0000n),
  pageOffsetEnd: virt(0xffff_c100_0000_0000n),
  vmallocStart: virt(0xffff_c200_0000_0000n),
  vmallocEnd: virt(0xffff_e200_0000_0000n),
  ...UPPER,
}
