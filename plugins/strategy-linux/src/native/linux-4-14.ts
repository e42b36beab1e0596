import { LAYOUT_4_8, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import { lastOf, type LinuxVersions } from '../version.ts'
import { LINUX_4_9 } from './linux-4-9.ts'

/** Linux 4.11 to 4.16. */
export const LINUX_4_14: LinuxVersions = {
  first: { ...lastOf(LINUX_4_9), tighten: 'attributes-or-properties' },
}

/** T3 that listens to the memory attributes table. */
export const linux414: StrategyDefinition = {
  name: 'linux-4.14',
  title: 'T3: as linux-4.9, with the rights of the memory attributes table (Linux 4.11 to 4.16)',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_4_8,
  linux: { from: '4.11', before: '4.17', as: '4.14' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux 4.11 arch/x86/platform/efi/efi_64.c: efi_runtime_update_mappings(), efi_update_mem_attr()',
    'Linux 4.14 arch/x86/include/asm/efi.h: arch_efi_call_virt_setup(), arch_efi_call_virt_teardown()',
    'Linux 4.14 drivers/firmware/efi/memattr.c, runtime-wrappers.c',
  ],
  create: () => new EfiVirtualMode(LINUX_4_14),
}
