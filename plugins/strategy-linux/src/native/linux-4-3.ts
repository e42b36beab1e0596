import type { StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import { lastOf, type LinuxVersions } from '../version.ts'
import { LINUX_3_18 } from './linux-3-18.ts'

/** Linux 4.3 to 4.5. */
export const LINUX_4_3: LinuxVersions = {
  first: { ...lastOf(LINUX_3_18), iteration: 'reverse' },
  later: { '4.5': { sharedBootServices: 'mark' } },
}

/** T2: as T1 from the end of the map, so that a region which follows another follows it in virtual addresses too. */
export const linux43: StrategyDefinition = {
  name: 'linux-4.3',
  title:
    'T2: as linux-3.18, in reverse map order, so that neighbours stay neighbours (Linux 4.3 to 4.5)',
  mode: 'virtual',
  rewindable: true,
  linux: { from: '4.3', before: '4.6', as: '4.3' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux commit a5caa209ba9c "x86/efi: Fix boot crash by mapping EFI memmap entries bottom-up at runtime"',
    'Linux 4.4 arch/x86/platform/efi/efi.c: efi_map_next_entry_reverse()',
    'Linux 4.5 arch/x86/platform/efi/quirks.c: can_free_region(), efi_reserve_boot_services()',
  ],
  create: () => new EfiVirtualMode(LINUX_4_3),
}
