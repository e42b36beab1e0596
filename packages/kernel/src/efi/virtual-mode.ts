import { PAGE_SIZE, type PhysicalAddress, type VirtualAddress } from '@trapdoor/core'
import {
  descriptorEnd,
  efiStatusName,
  encodeMemoryMap,
  EfiStatus,
  type MemoryDescriptor,
  MemoryType,
} from '@trapdoor/uefi'
import { KernelPanic, OutOfMemory } from '../error.ts'
import type { Kernel } from '../kernel.ts'
import { callPhysical } from './physical-call.ts'
import { virtualSystab } from './virtual-systab.ts'

/**
 * Where efi_enter_virtual_mode() of 2.6.35 puts a region: in the direct map where that covers it, else wherever efi_ioremap() (arch/x86/kernel/efi_64.c) does: MMIO
 * in vmalloc space, memory by extending the direct map. On i386 it is ioremap_cache() (arch/x86/include/asm/efi.h). 0, as NULL, and a message where there is no room in vmalloc space.
 */
export function efiIoremap(kernel: Kernel, descriptor: MemoryDescriptor): VirtualAddress {
  const { tables } = kernel
  const start = descriptor.physicalStart
  const end = descriptorEnd(descriptor)
  if (!tables.isDirectMapped(end)) {
    const isI386 = tables.layout.lowMemoryEnd !== undefined
    if (isI386 || descriptor.type === MemoryType.MemoryMappedIO) {
      const address = tables.ioremap(start, end - start, { cached: isI386 })
      if (address === 0n) {
        kernel.print(`EFI: ioremap of 0x${start.toString(16).toUpperCase()} failed!`)
      }
      return address
    }
    tables.initMemoryMapping(start, end)
  }
  return tables.directMapAddress(start)
}

/**
 * The middle of efi_enter_virtual_mode(): writes the map with the virtual addresses over the firmware's or, where the strategy says so, into memory of its own, calls SetVirtualAddressMap in
 * the early physical mode with it, and panics where it fails.
 */
export function setVirtualAddressMap(kernel: Kernel, map: readonly MemoryDescriptor[]): void {
  const efi = kernel.requireEfi
  const { info } = efi
  const bytes = encodeMemoryMap(map, info.memdescSize)
  const pages = Math.max(1, Math.ceil(bytes.length / PAGE_SIZE))
  const copy = kernel.strategy?.instance.copiesMap === true ? newMemmap(kernel, pages) : undefined
  const place = copy ?? info.memmap
  kernel.tables.withEarlyIoremap(kernel.bootCpu, BigInt(place), bytes.length, (address) => {
    kernel.bootCpu.writeBytes(address, bytes)
  })
  const mapped = map.filter(({ virtualStart }) => virtualStart !== 0n)
  const systab = virtualSystab(mapped, info.systab)
  if (systab === undefined) {
    throw new KernelPanic('kernel BUG at arch/x86/kernel/efi.c: BUG_ON(!efi.systab)')
  }
  const call = callPhysical(kernel, 'SetVirtualAddressMap', [
    BigInt(bytes.length),
    BigInt(info.memdescSize),
    BigInt(info.memdescVersion),
    BigInt(place),
  ])
  if (call.status !== EfiStatus.SUCCESS) {
    throw new KernelPanic(
      `EFI call to SetVirtualAddressMap() failed! (${efiStatusName(call.status)})`,
    )
  }
  efi.memoryMap = map
  efi.systab = systab
  efi.virtualMode = true
  if (copy !== undefined) kernel.allocator.release(copy / PAGE_SIZE, copy / PAGE_SIZE + pages)
}

/** krealloc() of new_memmap, whose result nobody looks at (arch/x86/platform/efi/efi.c, Linux 3.4). */
function newMemmap(kernel: Kernel, pages: number): PhysicalAddress {
  try {
    return kernel.allocatePages('EFI memory map', pages)
  } catch (error) {
    if (!(error instanceof OutOfMemory)) throw error
    throw new KernelPanic('unable to handle kernel NULL pointer dereference (memcpy to new_memmap)')
  }
}

/** runtime_code_page_mkexec(): runtime code becomes executable where the firmware was told that it is. */
export function makeRuntimeCodeExecutable(kernel: Kernel, map: readonly MemoryDescriptor[]): void {
  for (const descriptor of map) {
    if (descriptor.type !== MemoryType.RuntimeServicesCode || descriptor.virtualStart === 0n) {
      continue
    }
    kernel.tables.setMemoryExecutable(
      descriptor.virtualStart as VirtualAddress,
      descriptor.numberOfPages * PAGE_SIZE,
      true,
    )
  }
}
