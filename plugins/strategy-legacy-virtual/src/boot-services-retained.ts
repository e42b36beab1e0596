import {
  aliasLowHalf,
  aliasLowHalfByTables,
  callersLock,
  deleteDummyVariable,
  EfiPgd,
  freeBootServices,
  isBootServices,
  isLinux,
  isServiceOfRevision,
  isValidDescriptor,
  type Kernel,
  mergeRegions,
  type PageTableStrategy,
  PgdSwap,
  reserveBootServices,
  restoreXmm,
  rootEntriesOfRam,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import { isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { mapIntoDirectMap } from './legacy-virtual.ts'

/** What later kernels do differently, mostly with efi=old_map: a variable that may be left over is deleted, what has no address is passed all the same, boot services that are not to be freed are marked, and KASLR may have the direct map begin anywhere. */
const SINCE = { dummy: '3.10', passesAll: '3.14', marked: '4.5', aliasByTables: '4.12' } as const

/** efi_enter_virtual_mode() of 3.0.x to 3.13: firmware gets runtime regions and, but on i386, boot-services regions alone, merged, at addresses of the direct map. One that has no address is not among them. */
function minimalMap(
  kernel: Kernel,
  merged: readonly MemoryDescriptor[],
  passesAll: boolean,
): MemoryDescriptor[] {
  const isMapped = (region: MemoryDescriptor): boolean =>
    isRuntime(region) || (kernel.architecture.name === 'x64' && isBootServices(region))
  // Always in its own order: efi_map_next_entry() of 4.3 and later begins at the end without efi=old_map only.
  return merged
    .filter((region) => isMapped(region) && region.numberOfPages > 0)
    .map((region) => mapIntoDirectMap(kernel, region))
    .filter(({ virtualStart }) => virtualStart !== 0n || passesAll)
}

/** L2 without the calls: boot-services memory stays until SetVirtualAddressMap is over. `isSince` says whether the kernel is Linux of a version or later. */
export function retainBootServices(isSince: typeof isLinux = isLinux): PageTableStrategy {
  let merged: readonly MemoryDescriptor[] = []
  return {
    copiesMap: true,
    lockOf: (service) => callersLock(service),
    earlyPath: (kernel) =>
      new PgdSwap(kernel, {
        count: rootEntriesOfRam(kernel),
        alias: isSince(kernel, SINCE.aliasByTables) ? aliasLowHalfByTables : aliasLowHalf,
      }),
    earlyExecutableTypes: [MemoryType.RuntimeServicesCode, MemoryType.BootServicesCode],
    reserve: (kernel) => {
      const efi = kernel.requireEfi
      const shared = isSince(kernel, SINCE.marked) ? 'mark' : 'forget'
      efi.memoryMap = reserveBootServices(kernel, efi.memoryMap, shared)
    },
    virtualMap: (kernel) => {
      merged = mergeRegions(kernel.requireEfi.memoryMap)
      return minimalMap(kernel, merged, isSince(kernel, SINCE.passesAll))
    },
    offers: (kernel, service) => isServiceOfRevision(kernel.requireEfi.revision, service),
    enteredVirtualMode: (kernel) => {
      if (isSince(kernel, SINCE.dummy)) deleteDummyVariable(kernel)
      freeBootServices(kernel, merged)
    },
  }
}

export const bootServicesRetained: StrategyDefinition = {
  name: 'linux-3.4',
  title:
    'L2: as legacy-virtual, with boot services kept and mapped until SetVirtualAddressMap is over, and a minimal map (Linux 3.0 to 3.13)',
  mode: 'virtual',
  rewindable: true,
  linux: { from: '3.0', before: '3.14' },
  chosenByEfi: 'old_map',
  sources: [
    'Linux 3.4 arch/x86/platform/efi/efi.c: efi_reserve_boot_services(), efi_enter_virtual_mode(), efi_free_boot_services()',
    'Linux 3.4.y arch/x86/platform/efi/efi_64.c: efi_call_phys_prelog() with n_pgds entries, unlike 3.4 itself',
    'Linux commit 916f676f8dc0 "x86, efi: Retain boot service code until after switching to virtual mode"',
    'Linux 4.4, 4.19: efi=old_map; arch/x86/platform/efi/efi_64.c: efi_call_phys_prolog()',
  ],
  create: () => ({ ...retainBootServices(), leave: restoreXmm }),
}

/**
 * S38: addresses of the direct map, and calls on a table in which everything is 1:1 too. No release has it (3.8 as it came out has not, nor 3.7 or 3.9), and the text of the commit could not be had: it is modelled from its message and that of
 * "x86, mm: Include the entire kernel memory map in trampoline_pgd".
 */
export const identityBesideDirectMap: StrategyDefinition = {
  name: 'linux-3.8-rc',
  title:
    'S38: as linux-3.4, and calls run on trampoline_pgd with the whole map 1:1 (3.8-rc, reverted)',
  mode: 'virtual',
  rewindable: true,
  sources: [
    'Linux commit "x86, efi: 1:1 pagetable mapping for virtual EFI calls" (3.8-rc): its message, as secondary sources have it',
  ],
  create: () => {
    let pgd: EfiPgd | undefined
    return {
      ...retainBootServices(),
      enteredVirtualMode: (kernel) => {
        pgd = EfiPgd.trampoline(kernel)
        // The whole map, boot services that others have reserved among it.
        for (const region of kernel.requireEfi.firmwareMap.filter(isValidDescriptor)) {
          pgd.mapRegion(region, BigInt(region.physicalStart), true)
        }
        freeBootServices(kernel, kernel.requireEfi.memoryMap)
      },
      enter: ({ cpu }) => {
        pgd!.syncTrampoline()
        cpu.writeCr3(pgd!.root)
      },
      leave: (call) => {
        call.cpu.writeCr3(call.before.cr3)
        restoreXmm(call)
      },
    }
  },
}
