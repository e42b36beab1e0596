import type { StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import { lastOf, type LinuxVersions } from '../version.ts'
import { LINUX_4_3 } from './linux-4-3.ts'

/** Linux 4.6 to 4.8. */
export const LINUX_4_6: LinuxVersions = {
  first: {
    ...lastOf(LINUX_4_3),
    pageTable: 'efi_pgd',
    tighten: 'properties',
    interrupts: 'on',
    flush: 'both-ways',
  },
}

/** T3 as it began: a root for firmware alone, whose low half holds nothing but its regions, and interrupts on under a spinlock. */
export const linux46: StrategyDefinition = {
  name: 'linux-4.6',
  title: 'T3: as linux-4.3, on an efi_pgd of its own, interrupts on (Linux 4.6 to 4.8)',
  mode: 'virtual',
  rewindable: true,
  linux: { from: '4.6', before: '4.9', as: '4.6' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux 4.6 arch/x86/platform/efi/efi_64.c: efi_alloc_page_tables(), efi_sync_low_kernel_mappings(), efi_runtime_update_mappings(), efi_map_region_fixed()',
    'Linux 4.6 arch/x86/include/asm/efi.h: efi_call_virt() writes CR3 and calls __flush_tlb_all(), before and after',
    'Linux 4.6 drivers/firmware/efi/runtime-wrappers.c: spin_lock() in place of spin_lock_irqsave()',
  ],
  create: () => new EfiVirtualMode(LINUX_4_6),
}
