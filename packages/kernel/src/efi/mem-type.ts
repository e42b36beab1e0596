import type { Cpu } from '@trapdoor/core'
import type { Kernel } from '../kernel.ts'

/** Offsets in a memory descriptor (UEFI 2.10, 7.2.3). */
const PHYSICAL_START = 8n
const NUMBER_OF_PAGES = 24n

/**
 * efi_mem_type() of arch/x86/kernel/efi.c, 2.6.35: what the map calls the memory at a physical address, 0 where no descriptor covers it. It goes from `memmap.map` to `memmap.map_end`.
 * Once the runtime services are set up `memmap.map` is NULL, and nobody has reset the other: it reads address 0 then, as any pointer.
 */
export function efiMemType(kernel: Kernel, cpu: Cpu, physical: number): number {
  const { memmap, memmapSize, memdescSize } = kernel.requireEfi.info
  const { tables } = kernel
  const search = (map: bigint, end: bigint): number => {
    for (let at = map; at < end; at += BigInt(memdescSize)) {
      const start = Number(cpu.read64(at + PHYSICAL_START))
      const pages = Number(cpu.read64(at + NUMBER_OF_PAGES))
      if (start <= physical && physical < start + pages * 4096) return cpu.read32(at)
    }
    return 0
  }
  if (kernel.phase === 'running') return search(0n, tables.layout.fixmapStart + BigInt(memmapSize))
  return tables.withEarlyIoremap(cpu, BigInt(memmap), memmapSize, (map) =>
    search(map, map + BigInt(memmapSize)),
  )
}
