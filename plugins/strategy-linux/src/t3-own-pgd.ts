import type { StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from './enter-virtual-mode.ts'
import { LINUX_4_3 } from './t2-top-down-reverse.ts'
import type { LinuxVersion } from './version.ts'

/** Linux 4.14. */
export const LINUX_4_14: LinuxVersion = {
  ...LINUX_4_3,
  pageTable: 'efi_pgd',
  page0: 'executable',
  sharedBootServices: 'mark',
  cleanMemmap: true,
  tighten: 'attributes-or-properties',
  runtimeMap: 'efi.memmap',
  interrupts: 'on',
  leave: 'cr3',
  kexecRegions: 'virtual-and-identity',
}

/** T3: a root for firmware alone, whose low half holds nothing but its regions. */
export const ownPgd: StrategyDefinition = {
  name: 'linux-4.14',
  title:
    'T3: an efi_pgd of its own, page 0 in it, interrupts on, memory attributes table (Linux 4.6 to 4.19)',
  mode: 'virtual',
  rewindable: true,
  linux: { from: '4.6', before: '4.20' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux 4.14 arch/x86/platform/efi/efi_64.c: efi_alloc_page_tables(), efi_sync_low_kernel_mappings(), efi_setup_page_tables()',
    'Linux 4.14 arch/x86/platform/efi/quirks.c: efi_reserve_boot_services(), efi_free_boot_services()',
    'Linux 4.14 arch/x86/platform/efi/efi_64.c: efi_runtime_update_mappings()',
    'Linux 4.14 drivers/firmware/efi/memattr.c, runtime-wrappers.c',
  ],
  create: () => new EfiVirtualMode(LINUX_4_14),
}
