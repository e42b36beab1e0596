import { LAYOUT_4_20, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from './enter-virtual-mode.ts'
import { LINUX_5_4 } from './t4-efi-mm.ts'
import type { LinuxVersion } from './version.ts'

/** Linux 6.1. */
export const LINUX_6_1: LinuxVersion = {
  ...LINUX_5_4,
  page0: 'no-execute',
  executable: 'code',
  lastAttributesVersion: 2,
  svamFailure: 'disable',
  systab: 'read-one-to-one',
  fpu: 'saved-and-initialised',
  branchTrackingOff: 'calls',
  apple: 'efi-1.10',
}

/** T5: what is no code is not executable from the start. */
export const modern: StrategyDefinition = {
  name: 'linux-6.1',
  title: 'T5: as linux-5.4, and only code is executable (Linux 5.6 to 6.19)',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_4_20,
  linux: { from: '5.6', before: '7.0' },
  efiOnlyWithRuntimeMap: true,
  hardening: { ibt: 'after-setup' },
  sources: [
    'Linux 6.1 arch/x86/platform/efi/efi.c: __efi_enter_virtual_mode(), kexec_enter_virtual_mode()',
    'Linux 6.1 arch/x86/platform/efi/efi_64.c: efi_map_region(), efi_set_virtual_address_map(), efi_runtime_update_mappings()',
    'Linux 6.1 arch/x86/platform/efi/quirks.c: efi_free_boot_services(), efi_crash_gracefully_on_page_fault()',
    'Linux commit 636ab417a7ae "efi: Accept version 2 of memory attributes table"',
    'Linux 5.18 arch/x86/include/asm/efi.h: ibt_save() in arch_efi_call_virt_setup()',
  ],
  create: () => new EfiVirtualMode(LINUX_6_1),
}

/** T5 on CPUs that track branches and separate halves of the address space: both are off while firmware runs. */
export const hardened: StrategyDefinition = {
  name: 'linux-7.0',
  title:
    'T5: as linux-6.1, on kernels with IBT and LASS, which are off in calls (Linux 7.0 and later)',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_4_20,
  linux: { from: '7.0' },
  efiOnlyWithRuntimeMap: true,
  hardening: { ibt: 'before-setup', lass: true },
  sources: [
    'Linux commit 0303c9729afc "x86/efi: Make efi_set_virtual_address_map IBT safe"',
    'Linux commit 9df9d2f0471b "init: Invoke arch_cpu_finalize_init() earlier"',
    'Linux commit 1d959312e2f2 "efi: x86: Wire up IBT annotation in memory attributes table"',
    'Linux 7.0: LASS is disabled around runtime calls',
  ],
  options: {
    ibt: {
      title: 'where indirect-branch tracking is off: calls was what 6.5-rc1 did',
      values: ['calls-and-svam', 'calls', 'never'],
      default: 'calls-and-svam',
    },
    lass: {
      title: 'whether CR4.LASS is cleared in calls',
      values: ['cleared', 'kept'],
      default: 'cleared',
    },
  },
  create: ({ ibt, lass }) =>
    new EfiVirtualMode({
      ...LINUX_6_1,
      tighten: 'attributes',
      branchTrackingByTable: true,
      branchTrackingOff: ibt as LinuxVersion['branchTrackingOff'],
      lassOff: lass === 'cleared',
    }),
}
