import { LAYOUT_4_20, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from './enter-virtual-mode.ts'
import { LINUX_5_4 } from './t4-efi-mm.ts'
import type { LinuxVersion } from './version.ts'

/** Linux 6.1. */
const LINUX_6_1: LinuxVersion = {
  ...LINUX_5_4,
  executable: 'code',
  memattrSize: 'checked',
  apple: 'efi-1.10',
}

/** T5: what is no code is not executable from the start. */
export const modern: StrategyDefinition = {
  name: 'linux-6.1',
  title: 'T5: as linux-5.4, and only code is executable (Linux 5.6 and later)',
  mode: 'virtual',
  layout: LAYOUT_4_20,
  linux: { from: '5.6' },
  efiOnlyWithRuntimeMap: true,
  sources: [
    'Linux 6.1 arch/x86/platform/efi/efi.c: __efi_enter_virtual_mode(), kexec_enter_virtual_mode()',
    'Linux 6.1 arch/x86/platform/efi/efi_64.c: efi_map_region(), efi_set_virtual_address_map(), efi_runtime_update_mappings()',
    'Linux 6.1 arch/x86/platform/efi/quirks.c: efi_free_boot_services(), efi_crash_gracefully_on_page_fault()',
  ],
  create: () => new EfiVirtualMode(LINUX_6_1),
}
