import { LAYOUT_4_20, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from './enter-virtual-mode.ts'
import { LINUX_4_14 } from './t3-own-pgd.ts'
import type { LinuxVersion } from './version.ts'

/** Linux 5.4. */
export const LINUX_5_4: LinuxVersion = {
  ...LINUX_4_14,
  freedBootServices: 'unmapped',
  faultRecovery: 'abort-call',
  dummyAfterKexec: 'left',
}

/** T4: efi_mm is switched to as to any mm, freed boot-services memory leaves the tables, and a fault in firmware ends the call only. */
export const efiMm: StrategyDefinition = {
  name: 'linux-5.4',
  title:
    'T4: efi_mm, boot services unmapped once freed, page faults in firmware survived (Linux 4.20 to 5.5)',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_4_20,
  linux: { from: '4.20', before: '5.6' },
  efiOnlyWithRuntimeMap: true,
  alternatives: ['linux-3.4'],
  sources: [
    'Linux 5.4 arch/x86/platform/efi/efi_64.c: efi_switch_mm()',
    'Linux 5.4 arch/x86/platform/efi/quirks.c: efi_unmap_pages(), efi_recover_from_page_fault()',
    'Linux commit 2ecb7402cfc7 "efi/x86: Do not clean dummy variable in kexec path"',
    'Linux commit 3425d934fc03 "efi/x86: Handle page faults occurring while running EFI runtime services"',
  ],
  create: () => new EfiVirtualMode(LINUX_5_4),
}
