import type { StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from './enter-virtual-mode.ts'
import { LINUX_3_14 } from './t1-top-down-forward.ts'
import type { LinuxVersion } from './version.ts'

/** Linux 4.3. */
export const LINUX_4_3: LinuxVersion = {
  ...LINUX_3_14,
  iteration: 'reverse',
  lock: 'efi_runtime_lock',
  svamInterrupts: 'off',
  fpu: 'saved',
}

/** T2: as T1 from the end of the map, so that a region which follows another follows it in virtual addresses too. */
export const topDownReverse: StrategyDefinition = {
  name: 'linux-4.3',
  title:
    'T2: as linux-3.14, in reverse map order, so that neighbours stay neighbours (Linux 4.3 to 4.5)',
  mode: 'virtual',
  rewindable: true,
  linux: { from: '4.3', before: '4.6' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux commit a5caa209ba9c "x86/efi: Fix boot crash by mapping EFI memmap entries bottom-up at runtime"',
    'Linux 4.1: "efi: Clean up the efi_call_phys_[prolog|epilog]() save/restore interaction"',
    'Linux 4.4 arch/x86/platform/efi/efi.c: efi_map_next_entry_reverse()',
  ],
  create: () => new EfiVirtualMode(LINUX_4_3),
}
