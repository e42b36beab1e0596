import { LAYOUT_4_20, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import { lastOf, type LinuxVersion, type LinuxVersions } from '../version.ts'
import { LINUX_6_1 } from './linux-6-1.ts'

/** Linux 6.5 to 7.0. */
export const LINUX_6_12: LinuxVersions = {
  first: { ...lastOf(LINUX_6_1), branchTrackingOff: 'calls-and-svam' },
  later: { '6.13': { tighten: 'attributes' } },
}

/** T5 on CPUs that track branches from before the runtime services are set up: tracking is off while firmware runs. */
export const linux612: StrategyDefinition = {
  name: 'linux-6.12',
  title:
    'T5: as linux-6.1, on kernels with IBT early, which is off in all calls (Linux 6.5 to 7.0)',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_4_20,
  linux: { from: '6.5', before: '7.1', as: '6.12' },
  efiOnlyWithRuntimeMap: true,
  hardening: { ibt: 'before-setup' },
  sources: [
    'Linux commit 9df9d2f0471b "init: Invoke arch_cpu_finalize_init() earlier"',
    'Linux commit 0303c9729afc "x86/efi: Make efi_set_virtual_address_map IBT safe"',
    'Linux 6.13 arch/x86/platform/efi/efi_64.c: efi_runtime_update_mappings(), without EFI_NX_PE_DATA',
    'Linux 7.0 arch/x86/kernel/cpu/common.c: setup_lass(), which leaves LASS off with CONFIG_EFI',
  ],
  options: {
    ibt: {
      title: 'where indirect-branch tracking is off: calls was what 6.5-rc1 did',
      values: ['calls-and-svam', 'calls', 'never'],
      default: 'calls-and-svam',
    },
  },
  create: ({ ibt }) =>
    new EfiVirtualMode({
      ...LINUX_6_12,
      first: {
        ...LINUX_6_12.first,
        branchTrackingOff: ibt as LinuxVersion['branchTrackingOff'],
      },
    }),
}
