import { LAYOUT_4_8, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import { lastOf, type LinuxVersions } from '../version.ts'
import { LINUX_4_14 } from './linux-4-14.ts'

/** Linux 4.17 to 4.19. */
export const LINUX_4_19: LinuxVersions = {
  first: { ...lastOf(LINUX_4_14), flush: 'none' },
}

/** T4 as it began: efi_mm is switched to as to any mm, and what the kernel's leaves have of the TLB stays. */
export const linux419: StrategyDefinition = {
  name: 'linux-4.19',
  title:
    'T4: as linux-4.14, by switch_mm() to an efi_mm, which flushes no more than CR3 does (Linux 4.17 to 4.19)',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_4_8,
  linux: { from: '4.17', before: '4.20', as: '4.19' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux 4.19 arch/x86/platform/efi/efi_64.c: efi_switch_mm(), efi_alloc_page_tables()',
    'Linux 4.19 arch/x86/include/asm/efi.h: arch_efi_call_virt_setup()',
  ],
  create: () => new EfiVirtualMode(LINUX_4_19),
}
