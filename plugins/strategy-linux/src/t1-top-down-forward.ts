import type { StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from './enter-virtual-mode.ts'
import type { LinuxVersion } from './version.ts'

/** Linux 3.14. */
export const LINUX_3_14: LinuxVersion = {
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
  systab: 'looked-up',
  runtimeMap: 'copied',
  svamInterrupts: 'on',
  interrupts: 'off',
  fpu: 'volatile-xmm',
  leave: 'cr3-and-flush',
  faultRecovery: 'none',
  kexecRegions: 'virtual',
  dummyAfterKexec: 'deleted',
  branchTrackingOff: 'never',
  branchTrackingByTable: false,
  lassOff: false,
}

/** T1: regions get addresses from −4 GiB downwards in the order of the map, and calls run on the table that wakes up the other CPUs. */
export const topDownForward: StrategyDefinition = {
  name: 'linux-3.14',
  title: 'T1: addresses from −4 GiB downwards in map order, on trampoline_pgd (Linux 3.14 to 4.2)',
  mode: 'virtual',
  rewindable: true,
  linux: { from: '3.14', before: '4.3' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux 3.14 arch/x86/platform/efi/efi_64.c: efi_map_region(), efi_sync_low_kernel_mappings()',
    'Linux 3.14 arch/x86/platform/efi/efi.c: efi_map_regions(), save_runtime_map(), kexec_enter_virtual_mode()',
    'Linux 3.14 arch/x86/platform/efi/efi_stub_64.S: SWITCH_PGT, RESTORE_PGT, one efi_scratch for all CPUs',
    'Linux 3.14 drivers/firmware/efi/vars.c: __efivars->lock; arch/x86/platform/efi/efi.c: virt_efi_get_time() takes rtc_lock',
  ],
  create: () => new EfiVirtualMode(LINUX_3_14),
}
