import { LAYOUT_4_20, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import { lastOf, type LinuxVersions } from '../version.ts'
import { LINUX_5_4 } from './linux-5-4.ts'

/** Linux 5.6 to 6.4. */
export const LINUX_6_1: LinuxVersions = {
  first: {
    ...lastOf(LINUX_5_4),
    page0: 'no-execute',
    executable: 'code',
    svamFailure: 'disable',
  },
  later: {
    '5.7': { systab: 'read-one-to-one' },
    '5.8': { fpu: 'saved-and-initialised' },
    '5.15': { resetSystem: 'gives-up' },
    '5.17': { apple: 'efi-1.10' },
    '5.18': { branchTrackingOff: 'calls' },
    // 6.2, and the 6.1.y whose boots were watched.
    '6.1': { lastAttributesVersion: 2 },
    '6.4': { branchTrackingByTable: true },
  },
}

/** T5: what is no code is not executable from the start. */
export const linux61: StrategyDefinition = {
  name: 'linux-6.1',
  title: 'T5: as linux-5.4, and only code is executable (Linux 5.6 to 6.4)',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_4_20,
  linux: { from: '5.6', before: '6.5', as: '6.1' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  hardening: { ibt: 'after-setup' },
  sources: [
    'Linux 5.6 arch/x86/platform/uv/bios_uv.c: efi=old_map, up to 5.8',
    'Linux 6.1 arch/x86/platform/efi/efi.c: __efi_enter_virtual_mode(), kexec_enter_virtual_mode()',
    'Linux 6.1 arch/x86/platform/efi/efi_64.c: efi_map_region(), efi_set_virtual_address_map(), efi_runtime_update_mappings()',
    'Linux 6.1 arch/x86/platform/efi/quirks.c: efi_free_boot_services(), efi_crash_gracefully_on_page_fault()',
    'Linux 6.1 drivers/firmware/efi/runtime-wrappers.c: virt_efi_reset_system()',
    'Linux 6.2 drivers/firmware/efi/memattr.c: efi_memattr_init(), version 2',
    'Linux 6.1 arch/x86/include/asm/efi.h: ibt_save() in arch_efi_call_virt()',
    'Linux 6.4 arch/x86/platform/efi/efi_64.c: efi_disable_ibt_for_runtime',
  ],
  create: () => new EfiVirtualMode(LINUX_6_1),
}
