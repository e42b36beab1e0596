import { PAGE_SIZE_1G } from '@trapdoor/core'
import { type AddressSpaceLayout, kernelAddress } from './layout.ts'

/** Bytes of vmalloc space and of the direct map that kernel_randomize_memory() reserves: 32 TiB with four levels, and as much memory as there is, with 10 TiB to spare. */
const VMALLOC_BYTES = 2n ** 45n
const PADDING_BYTES = 10n * 2n ** 40n
const GIBIBYTE = BigInt(PAGE_SIZE_1G)
/** Linear addresses of kernel text may begin at 512 multiples of 2 MiB. */
const TEXT_SLOTS = 512
const TEXT_ALIGN = 2n ** 21n

/**
 * kernel_randomize_memory() (arch/x86/mm/kaslr.c, Linux 4.8 and later): the direct map and vmalloc space move upwards by multiples of 1 GiB, in this order, within what the
 * layout leaves them. Kernel text moves by multiples of 2 MiB. One seed gives one layout.
 */
export function randomizeLayout(
  layout: AddressSpaceLayout,
  seed: number,
  bytesOfMemory: number,
): AddressSpaceLayout {
  const random = generator(seed)
  const memory = roundUp(BigInt(bytesOfMemory)) + PADDING_BYTES
  let next: bigint = layout.pageOffset
  let spare = layout.vmallocEnd - next - memory - VMALLOC_BYTES
  const take = (share: bigint, size: bigint): bigint => {
    const room = spare / share / GIBIBYTE
    const gap = room > 0n ? (random() % (room + 1n)) * GIBIBYTE : 0n
    spare -= gap
    const start = next + gap
    next = start + size
    return start
  }
  const pageOffset = take(2n, memory)
  const vmallocStart = take(1n, VMALLOC_BYTES)
  const textOffset = (random() % BigInt(TEXT_SLOTS)) * TEXT_ALIGN
  return {
    ...layout,
    name: `${layout.name}, KASLR seed ${seed}`,
    pageOffset: kernelAddress(pageOffset),
    pageOffsetEnd: kernelAddress(pageOffset + memory),
    vmallocStart: kernelAddress(vmallocStart),
    vmallocEnd: kernelAddress(vmallocStart + VMALLOC_BYTES),
    textOffset: Number(textOffset % 2n ** 28n),
  }
}

function roundUp(bytes: bigint): bigint {
  return ((bytes + GIBIBYTE - 1n) / GIBIBYTE) * GIBIBYTE
}

/** Numbers of 32 bits that follow from a seed (splitmix32). */
function generator(seed: number): () => bigint {
  let state = seed | 0
  return () => {
    state = (state + 0x9e37_79b9) | 0
    let mixed = state ^ (state >>> 16)
    mixed = Math.imul(mixed, 0x21f0_aaad)
    mixed ^= mixed >>> 15
    mixed = Math.imul(mixed, 0x735a_2d97)
    return BigInt((mixed ^ (mixed >>> 15)) >>> 0)
  }
}
