import type { StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import type { LinuxVersions } from '../version.ts'

/** Linux 3.14 to 3.17. */
export const LINUX_3_14: LinuxVersions = {
  first: {
    pageTable: 'trampoline_pgd',
    iteration: 'forward',
    executable: 'everything',
    page0: 'unmapped',
    sharedBootServices: 'forget',
    freedBootServices: 'mapped',
    cleanMemmap: false,
    tighten: 'none',
    apple: 'as-it-says',
    lastAttributesVersion: 1,
    svamFailure: 'panic',
    lock: 'of-the-callers',
    resetSystem: 'waits',
    systab: 'looked-up',
    runtimeMap: 'copied',
    svamInterrupts: 'on',
    interrupts: 'off',
    fpu: 'volatile-xmm',
    flush: 'on-return',
    faultRecovery: 'none',
    kexecRegions: 'virtual',
    dummyAfterKexec: 'deleted',
    branchTrackingOff: 'never',
    branchTrackingByTable: false,
    lassOff: false,
  },
  later: { '3.16': { fpu: 'saved' } },
}

/** T1: regions get addresses from −4 GiB downwards in the order of the map, and calls run on the table that wakes up the other CPUs. */
export const linux314: StrategyDefinition = {
  name: 'linux-3.14',
  title:
    'T1: addresses from −4 GiB downwards in map order, on trampoline_pgd, locks of the callers (Linux 3.14 to 3.17)',
  mode: 'virtual',
  rewindable: true,
  linux: { from: '3.14', before: '3.18', as: '3.14' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux 3.14 arch/x86/platform/efi/efi_64.c: efi_map_region(), efi_sync_low_kernel_mappings()',
    'Linux 3.14 arch/x86/platform/efi/efi.c: efi_map_regions(), save_runtime_map(), efi_enter_virtual_mode()',
    'Linux 3.14 arch/x86/platform/efi/efi_stub_64.S: SWITCH_PGT, RESTORE_PGT, one efi_scratch for all CPUs',
    'Linux 3.14 drivers/firmware/efi/vars.c: __efivars->lock; arch/x86/platform/efi/efi.c: virt_efi_get_time() takes rtc_lock, virt_efi_reset_system() none',
    'Linux 3.16 arch/x86/include/asm/efi.h: efi_call_virt() between __kernel_fpu_begin() and _end()',
  ],
  create: () => new EfiVirtualMode(LINUX_3_14),
}
