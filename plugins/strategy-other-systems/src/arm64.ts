import {
  LAYOUT_FIXED_ROOT,
  type PageTableStrategy,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import { isRuntime, type MemoryDescriptor } from '@trapdoor/uefi'
import { codeExecutable, rwx, RuntimeTables, placedAt } from './runtime-tables.ts'

/** EFI_RT_VIRTUAL_BASE: 512 MiB, from which regions are placed upwards. */
const VIRTUAL_BASE = 0x2000_0000n
/** Regions begin at multiples of 64 KiB, or of 2 MiB where they are as large. */
const SMALL = 0x1_0000n
const LARGE = 0x20_0000n

/** efi_get_virtmap() before 2023: upwards in the low half. */
function placeUpwards(regions: readonly MemoryDescriptor[]): MemoryDescriptor[] {
  let base = VIRTUAL_BASE
  return regions.map((region) => {
    const bytes = BigInt(region.numberOfPages * 4096)
    const unit = bytes >= LARGE ? LARGE : SMALL
    const start = base + ((unit - (base % unit)) % unit)
    // Data that follows code page by page stays behind it.
    const virtualStart = start + (BigInt(region.physicalStart) % SMALL)
    base = virtualStart + bytes
    return placedAt(region, virtualStart)
  })
}

function createArm64(options: Readonly<Record<string, string>>): PageTableStrategy {
  let tables: RuntimeTables | undefined
  return {
    serialised: true,
    setup: (kernel) => {
      // efi_novamap, of which x86's stub reads the word alone.
      const map = kernel.commandLine.efi.has('novamap') ? 'none' : options['map']
      const regions = kernel.requireEfi.memoryMap.filter(isRuntime)
      const placed =
        map === 'virtual'
          ? placeUpwards(regions)
          : regions.map((region) => placedAt(region, BigInt(region.physicalStart)))
      tables = new RuntimeTables(kernel, 'efi_mm')
      for (const region of placed) tables.map(region, region.virtualStart, codeExecutable(region))
      if (map === 'none') return
      const stub = new RuntimeTables(kernel, 'stub')
      // The stub runs on the firmware's own tables: the new addresses exist only once the kernel has its own.
      for (const region of placed) stub.map(region, BigInt(region.physicalStart), rwx(region))
      stub.setVirtualAddressMap(placed)
    },
    enter: ({ cpu }) => {
      tables!.enter(cpu)
    },
    leave: (call) => {
      tables!.leave(call)
    },
  }
}

/** arm64: since 48-bit addresses firmware is not moved at all. */
export const arm64: StrategyDefinition = {
  name: 'arm64',
  title:
    'arm64’s way on x86-64: runtime regions alone, flat and without SetVirtualAddressMap, or upwards from 512 MiB',
  mode: 'physical',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: [
    'Linux 6.1 drivers/firmware/efi/libstub/fdt.c, arm64.c: efi=novamap, efi_get_virtmap()',
    'Linux 6.1 drivers/firmware/efi/arm-runtime.c: efi_virtmap_init()',
  ],
  options: {
    map: {
      title:
        'none: not called; flat: called with VA = PA; virtual: called with low addresses from 512 MiB on',
      values: ['none', 'flat', 'virtual'],
      default: 'none',
    },
  },
  create: createArm64,
}
