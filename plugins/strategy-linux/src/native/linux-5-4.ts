import { LAYOUT_4_20, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from '../enter-virtual-mode.ts'
import { lastOf, type LinuxVersions } from '../version.ts'
import { LINUX_4_19 } from './linux-4-19.ts'

/** Linux 4.20 to 5.5. */
export const LINUX_5_4: LinuxVersions = {
  first: { ...lastOf(LINUX_4_19), faultRecovery: 'abort-call' },
  later: { '5.0': { freedBootServices: 'unmapped' }, '5.4': { dummyAfterKexec: 'left' } },
}

/** T4: a fault in firmware ends the call only, and freed boot-services memory leaves the tables. */
export const linux54: StrategyDefinition = {
  name: 'linux-5.4',
  title:
    'T4: as linux-4.19, boot services unmapped once freed, page faults in firmware survived (Linux 4.20 to 5.5)',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_4_20,
  linux: { from: '4.20', before: '5.6', as: '5.4' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux 4.20 arch/x86/platform/efi/quirks.c: efi_recover_from_page_fault() (commit 3425d934fc03)',
    'Linux 5.0 arch/x86/platform/efi/quirks.c: efi_unmap_pages()',
    'Linux 5.4 arch/x86/platform/efi/efi.c: kexec_enter_virtual_mode() (commit 2ecb7402cfc7 "efi/x86: Do not clean dummy variable in kexec path")',
  ],
  create: () => new EfiVirtualMode(LINUX_5_4),
}
