import { PAGE_SIZE, PAGE_SIZE_1G } from '@trapdoor/core'
import type { Kernel } from '../kernel.ts'
import { isLinux } from '../linux-version.ts'
import { ramRanges } from '../memory/e820.ts'
import type { Placement } from '../memory/page-allocator.ts'
import type { CrashKernelRequest } from './command-line.ts'
import type { ByteRange } from './loader.ts'

/** CRASH_ALIGN. */
const ALIGN = 0x100_0000 / PAGE_SIZE
/** What a 32-bit trampoline and the kernels of 2010 could use: 896 MiB, in frames. */
const LIMIT_OF_2010 = 0x3800_0000 / PAGE_SIZE
/** CRASH_ADDR_LOW_MAX and CRASH_ADDR_HIGH_MAX, in frames. */
const LOW_MAX = (4 * PAGE_SIZE_1G) / PAGE_SIZE
const HIGH_MAX = (64 * 1024 * PAGE_SIZE_1G) / PAGE_SIZE
/** DEFAULT_CRASH_KERNEL_LOW_SIZE, where swiotlb has its usual 64 MiB. */
const LOW_BYTES = 2 ** 28

/**
 * reserve_crashkernel() (arch/x86/kernel/setup.c): the lowest free range below 896 MiB in 2.6.35; from 2.6.37 on the highest (memblock searches from above), from 5.2 on below 4 GiB, and above where nothing is free there, with 256 MiB for DMA below. With `,high`, which kernels before 3.9 do not know, it is the highest of all memory. Without
 * room the kernel says so and boots on.
 */
export function reserveCrashKernel(kernel: Kernel): void {
  const { crashKernel } = kernel.commandLine
  const ram = ramRanges(kernel.e820).reduce((sum, { start, end }) => sum + end - start, 0)
  const bytes = Math.ceil(bytesOf(crashKernel, ram) / PAGE_SIZE) * PAGE_SIZE
  if (crashKernel === undefined || bytes === 0) return
  if (crashKernel.isHigh && !isLinux(kernel, '3.9')) return
  const region = findRegion(kernel, bytes, crashKernel)
  if (region === undefined) {
    kernel.print('crashkernel reservation failed - No suitable area found.')
    return
  }
  if (region.start >= LOW_MAX * PAGE_SIZE && crashKernel.lowBytes !== 0) {
    const low = Math.ceil((crashKernel.lowBytes ?? LOW_BYTES) / PAGE_SIZE) * PAGE_SIZE
    kernel.crashLowRegion = reserve(kernel, low, { topDown: true, below: LOW_MAX })
    if (kernel.crashLowRegion === undefined) {
      kernel.allocator.release(region.start / PAGE_SIZE, region.end / PAGE_SIZE)
      kernel.print(
        `Cannot reserve ${low / 2 ** 20}MB crashkernel low memory, please try smaller size.`,
      )
      return
    }
  }
  kernel.crashRegion = region
  kernel.print(
    `Reserving ${bytes / 2 ** 20}MB of memory at ${region.start / 2 ** 20}MB for crashkernel`,
  )
}

/** The size that a machine with `ram` bytes of memory gets. */
function bytesOf(request: CrashKernelRequest | undefined, ram: number): number {
  return request?.sizes.find(({ from, to }) => from <= ram && ram < to)?.bytes ?? 0
}

function findRegion(
  kernel: Kernel,
  bytes: number,
  { at, isHigh }: CrashKernelRequest,
): ByteRange | undefined {
  if (at !== undefined) {
    const first = Math.ceil(at / PAGE_SIZE)
    const above = first + bytes / PAGE_SIZE
    return reserve(kernel, bytes, { align: 1, topDown: true, below: above, from: first })
  }
  // No strategy tells 2.6.37 from 2.6.35.
  if (!isLinux(kernel, '3.0')) return reserve(kernel, bytes, { below: LIMIT_OF_2010 })
  if (!isLinux(kernel, '5.2')) {
    return reserve(kernel, bytes, { topDown: true, below: isHigh ? HIGH_MAX : LIMIT_OF_2010 })
  }
  const low = (): ByteRange | undefined =>
    reserve(kernel, bytes, { topDown: true, below: LOW_MAX, from: ALIGN })
  const high = (): ByteRange | undefined =>
    reserve(kernel, bytes, { topDown: true, below: HIGH_MAX, from: LOW_MAX })
  return isHigh ? (high() ?? low()) : (low() ?? high())
}

function reserve(kernel: Kernel, bytes: number, place: Placement): ByteRange | undefined {
  const frame = kernel.allocator.tryAllocate(kernel.owner('crash kernel'), bytes / PAGE_SIZE, {
    align: ALIGN,
    ...place,
  })
  if (frame === undefined) return undefined
  return { start: frame * PAGE_SIZE, end: frame * PAGE_SIZE + bytes }
}
