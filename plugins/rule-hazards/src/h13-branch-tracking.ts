import { ControlProtection } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

/** Firmware that was not built for CET has no ENDBR64 where it is called. */
export const h13BranchTracking: Rule = {
  id: 'H13',
  title: 'Firmware was called with indirect-branch tracking on',
  severity: 'error',
  advice:
    'clear IA32_S_CET.ENDBR_EN around every call, SetVirtualAddressMap among them, where the memory attributes table does not say that firmware has ENDBR instructions',
  sources: [
    'Linux 5.18 arch/x86/include/asm/efi.h: ibt_save()',
    'Linux commit 0303c9729afc "x86/efi: Make efi_set_virtual_address_map IBT safe"',
    'UEFI 2.10, 4.6.4: EFI_MEMORY_ATTRIBUTES_FLAGS_RT_FORWARD_CONTROL_FLOW_GUARD',
    'Intel SDM Vol. 1, 18.3',
  ],
  rewindable: true,
  watch: ({ diagnose }) => {
    diagnose(({ error, call, kernel, image = 'the kernel' }) => {
      if (!(error instanceof ControlProtection) || call === undefined) return undefined
      return {
        message: `${call.service} is called with indirect-branch tracking on, and firmware has no ENDBR64 there`,
        explanation: `${kernel?.name ?? 'The kernel'} has CR4.CET and IA32_S_CET.ENDBR_EN set. ${image === 'the kernel' ? 'Its call' : `A call inside ${image}`} is an indirect branch, and the instruction that it leads to is not ENDBR64: #CP(3).`,
        actor: 'kernel',
      }
    })
  },
}
