import { formatAddress, PAGE_SIZE, PageFault } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import { type Kernel, KernelPanic, ramRanges } from '@trapdoor/kernel'
import { couldBePhysical } from './could-be-physical.ts'
import { descriptorEnd, formatMemoryAttribute, isRuntime, memoryTypeName } from '@trapdoor/uefi'

/** Whatever firmware touches must be in the tables that it runs under; the memory map may not say all of it. */
export const h19Unmapped: Rule = {
  id: 'H19',
  title: 'Firmware touches what the page tables of its call do not map',
  severity: 'error',
  advice:
    'map all regions with the RUNTIME attribute, also those beyond the end of RAM (flash, devices) and those of runtime types without it, and add what this machine’s firmware is known to leave out',
  sources: [
    'Xen xen/common/efi/boot.c: efi_init_memory() forces RUNTIME on types 5 and 6 (2022)',
    'OpenCore Configuration.pdf, ProtectMemoryRegions',
  ],
  rewindable: true,
  watch: ({ hooks, report, diagnose }) => {
    hooks.phase.tap('H19', (kernel) => {
      if (kernel.phase !== 'mm_init' || kernel.efi === undefined) return
      for (const region of kernel.efi.firmwareMap.filter(isRuntime)) {
        const ram = ramRanges(kernel.e820).find(
          ({ start, end }) => start < descriptorEnd(region) && end > region.physicalStart,
        )
        if (ram === undefined) continue
        const physical = Math.max(ram.start, region.physicalStart)
        report(kernel, {
          message: `${formatAddress(physical)} is ${memoryTypeName(region.type)} with RUNTIME for the firmware, and usable memory in the e820 map`,
          explanation:
            'The page allocator works by the e820 map, and gives this memory away unless somebody reserves it. The memory map of the firmware says that it is wanted at run time.',
          severity: 'warning',
          physical,
          actor: 'kernel',
        })
      }
    })
    diagnose(({ error, call, kernel, image, descriptorAt }) => {
      if (error instanceof KernelPanic && kernel?.phase === 'efi' && kernel.efi !== undefined) {
        const { systab } = kernel.efi.info
        const holder = descriptorAt(systab)
        if (holder === undefined || isRuntime(holder)) return undefined
        return {
          message: `${kernel.name} stops: no runtime region holds the EFI system table, which is in ${memoryTypeName(holder.type)} without the RUNTIME attribute`,
          explanation: `efi_enter_virtual_mode() maps the regions that have the RUNTIME attribute and looks for the system table among them. The map says ${formatMemoryAttribute(holder.attribute)} of the region that holds it, and the kernel stops: ${error.message}.`,
          physical: systab,
        }
      }
      if (!(error instanceof PageFault) || call === undefined) return undefined
      if (!couldBePhysical(kernel, error.address)) {
        return {
          message: `${image ?? 'the kernel'} dies inside ${call.service}: ${error.message}`,
          explanation:
            'No page table of this machine has a use for this address: the firmware’s own data led it there.',
        }
      }
      const descriptor = descriptorAt(Number(error.address))
      const where = formatAddress(error.address)
      const who = image ?? (error.access === 'execute' ? fetchOf(kernel, error) : 'the kernel')
      if (descriptor === undefined) {
        return {
          message: `${who} touches ${where} inside ${call.service}, which is not in the memory map at all`,
          explanation:
            'The firmware uses a device at a physical address that its own memory map does not list. Page tables that are built from the map have nothing there.',
        }
      }
      const said = `${memoryTypeName(descriptor.type)} with ${formatMemoryAttribute(descriptor.attribute) || 'no attributes'}`
      return {
        message: `${who} touches ${where} inside ${call.service}, which the map calls ${said}`,
        explanation: isRuntime(descriptor)
          ? `The region has the RUNTIME attribute, yet the page tables of the call do not map it as the firmware needs it.`
          : `Only regions with the RUNTIME attribute must be mapped for calls. The map calls this region ${said}, without RUNTIME, and the firmware uses it all the same.`,
      }
    })
  },
}

/** Whose code a call was to begin with, where the fetch of its first instruction has failed. */
function fetchOf(kernel: Kernel | undefined, { address }: PageFault): string {
  const owner = kernel?.machine.memory.owners.get(Math.floor(Number(address) / PAGE_SIZE))
  return owner?.kind === 'firmware' ? `the call of ${owner.name}` : 'the call'
}
