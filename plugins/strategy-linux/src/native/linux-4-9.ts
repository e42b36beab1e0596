import { LAYOUT_4_8, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import { lastOf, type LinuxVersions } from '../version.ts'
import { LINUX_4_6 } from './linux-4-6.ts'

/** Linux 4.9 and 4.10. */
export const LINUX_4_9: LinuxVersions = {
  first: {
    ...lastOf(LINUX_4_6),
    runtimeMap: 'efi.memmap',
    kexecRegions: 'virtual-and-identity',
  },
  later: { '4.10': { page0: 'executable', cleanMemmap: true } },
}

/** T3 for kexec: the map outlives the boot, tables in boot-services memory are kept, and the next kernel maps regions 1:1 too. */
export const linux49: StrategyDefinition = {
  name: 'linux-4.9',
  title:
    'T3: as linux-4.6, with a map that lasts and reserved tables, 1:1 after kexec too; page 0 (Linux 4.9 and 4.10)',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_4_8,
  linux: { from: '4.9', before: '4.11', as: '4.9' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux 4.9 arch/x86/platform/efi/quirks.c: efi_arch_mem_reserve(), for ESRT and BGRT (packages/kernel/src/efi/tables); efi_free_boot_services()',
    'Linux 4.9 arch/x86/platform/efi/efi_64.c: efi_map_region_fixed()',
    'Linux 4.9 drivers/firmware/efi/runtime-map.c: efi_get_runtime_map_size()',
    'Linux 4.10 arch/x86/platform/efi/efi_64.c: efi_setup_page_tables(), page 0; efi.c: efi_clean_memmap()',
  ],
  create: () => new EfiVirtualMode(LINUX_4_9),
}
