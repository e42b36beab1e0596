import {
  PAGE_SIZE,
  type PhysicalAddress,
  phys,
  type Rewind,
  type VirtualAddress,
} from '@trapdoor/core'
import { KernelError } from '../error.ts'
import { type AddressSpaceLayout, kernelAddress } from './layout.ts'

/** Bytes of a loaded kernel: 4 MiB of text, then data and bss. */
export const KERNEL_IMAGE_BYTES = 0x100_0000
export const KERNEL_TEXT_BYTES = 0x40_0000
/** Bytes behind the image where a loader leaves what it hands over; kexec uses the second half, the first loader the first. */
export const HAND_OFF_BYTES = 0x1_0000
export const KERNEL_FOOTPRINT_BYTES: number = KERNEL_IMAGE_BYTES + 2 * HAND_OFF_BYTES

/** The linked distance of text from __START_KERNEL_map (CONFIG_PHYSICAL_START). */
const LINK_OFFSET = 0x100_0000n

/** The kernel's own image in memory, with its static data: pages of data and bss that are never given back. */
export class KernelImage {
  /** Physical address of the first byte. */
  readonly base: PhysicalAddress
  readonly #start: bigint
  #next = KERNEL_TEXT_BYTES

  constructor(layout: AddressSpaceLayout, base: PhysicalAddress) {
    this.base = base
    this.#start =
      layout.imageInDirectMap === true
        ? layout.pageOffset + BigInt(base)
        : layout.startKernelMap + LINK_OFFSET + BigInt(layout.textOffset ?? 0)
  }

  /** Remembers which static data is taken at this moment. */
  checkpoint(): Rewind {
    const next = this.#next
    return () => {
      this.#next = next
    }
  }

  /** _end, physical. */
  get end(): number {
    return this.base + KERNEL_IMAGE_BYTES
  }

  /** _text and _etext, physical. */
  get text(): { readonly start: number; readonly end: number } {
    return { start: this.base, end: this.base + KERNEL_TEXT_BYTES }
  }

  /** Whether a virtual address is in the image's mapping, and not in the direct map's. */
  contains(address: bigint): boolean {
    return address >= this.#start && address < this.#start + BigInt(KERNEL_IMAGE_BYTES)
  }

  /** Virtual address of the first byte. */
  get start(): VirtualAddress {
    return kernelAddress(this.#start)
  }

  /** Where the byte at physical address `address` of the image is mapped. */
  virtualAddress(address: number): VirtualAddress {
    return kernelAddress(this.#start + BigInt(address - this.base))
  }

  /** Physical address of `count` pages of static data that nobody has yet. They are zero, as bss is. */
  staticPages(count: number): PhysicalAddress {
    const start = this.base + this.#next
    this.#next += count * PAGE_SIZE
    if (this.#next > KERNEL_IMAGE_BYTES) {
      throw new KernelError('KERNEL_NO_ROOM', {
        expected: 'static data within the kernel image',
        found: `${this.#next} bytes of ${KERNEL_IMAGE_BYTES}`,
      })
    }
    return phys(start)
  }
}
