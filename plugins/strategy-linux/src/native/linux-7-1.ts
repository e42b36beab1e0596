import { LAYOUT_4_20, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import { lastOf, type LinuxVersions } from '../version.ts'
import { LINUX_6_12 } from './linux-6-12.ts'

/** Linux 7.1. */
const LINUX_7_1: LinuxVersions = { first: { ...lastOf(LINUX_6_12), lassOff: true } }

/** T5 on CPUs that keep the halves of the address space apart: LASS is on once the kernel has booted, and off in calls, which run in the low half. */
export const linux71: StrategyDefinition = {
  name: 'linux-7.1',
  title: 'T5: as linux-6.12, on kernels with LASS, which is off in calls (Linux 7.1 and later)',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_4_20,
  linux: { from: '7.1', as: '7.1' },
  efiOnlyWithRuntimeMap: true,
  hardening: { ibt: 'before-setup', lass: 'after-setup' },
  sources: [
    'Linux 7.1 arch/x86/platform/efi/efi_64.c: efi_disable_lass() after efi_enter_mm(), efi_enable_lass() before efi_leave_mm()',
    'Linux 7.1 arch/x86/kernel/cpu/common.c: enable_lass(), from a late_initcall',
  ],
  options: {
    lass: {
      title: 'whether CR4.LASS is cleared in calls',
      values: ['cleared', 'kept'],
      default: 'cleared',
    },
  },
  create: ({ lass }) =>
    new EfiVirtualMode({ first: { ...LINUX_7_1.first, lassOff: lass === 'cleared' } }),
}
