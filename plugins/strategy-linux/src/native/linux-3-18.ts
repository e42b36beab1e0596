import type { StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import { lastOf, type LinuxVersions } from '../version.ts'
import { LINUX_3_14 } from './linux-3-14.ts'

/** Linux 3.18 to 4.2. */
export const LINUX_3_18: LinuxVersions = {
  first: { ...lastOf(LINUX_3_14), lock: 'efi_runtime_lock' },
  later: { '4.1': { svamInterrupts: 'off' } },
}

/** T1 with a lock: the same addresses and tables, and no call beside another. */
export const linux318: StrategyDefinition = {
  name: 'linux-3.18',
  title: 'T1: as linux-3.14, with one lock for all calls (Linux 3.18 to 4.2)',
  mode: 'virtual',
  rewindable: true,
  linux: { from: '3.18', before: '4.3', as: '3.18' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux 3.18 drivers/firmware/efi/runtime-wrappers.c: efi_runtime_lock, virt_efi_reset_system()',
    'Linux 4.1 arch/x86/platform/efi/efi.c: phys_efi_set_virtual_address_map(), local_irq_save() between prolog and epilog',
  ],
  create: () => new EfiVirtualMode(LINUX_3_18),
}
