import { PageFault, PageFaultBit } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

/** Page 0: kernel bugs must fault on it, and some firmware needs it. */
export const h06PageZero: Rule = {
  id: 'H6',
  title: 'Page 0 during a call',
  severity: 'warning',
  advice:
    'leave page 0 unmapped, unless this machine’s firmware is known to need it, and leave the identity map at once after the call',
  sources: [
    'Eric W. Biederman, reply to "EFI: run EFI in physical mode", LKML, August 2010',
    'Linux 4.10 arch/x86/platform/efi/efi_64.c: efi_setup_page_tables() maps page 0 1:1',
  ],
  rewindable: true,
  watch: ({ hooks, report, diagnose }) => {
    hooks.nullRead.tap('H6', (call, caught) => {
      if (caught) return
      report(call.kernel, {
        message: `an NMI handler’s NULL dereference inside ${call.service} went through unnoticed`,
        explanation:
          'While the firmware’s page tables are loaded, linear address 0 is mapped. A NULL pointer in kernel code that runs meanwhile (an NMI or machine-check handler) reads or writes the first page of memory instead of faulting.',
        call,
        address: 0n,
        access: 'read',
        actor: 'kernel (NMI handler)',
      })
    })
    diagnose(({ error, call, image }) => {
      if (!(error instanceof PageFault) || call === undefined || image === undefined)
        return undefined
      const isMapped = (error.errorCode & PageFaultBit.Present) !== 0
      if (error.address > 0xfffn || isMapped) return undefined
      return {
        message: `${image} touches page 0 inside ${call.service}, and page 0 is not mapped`,
        explanation:
          'Firmware of several vendors uses the first page of memory at run time: the BIOS data area, above all the reset flag at 0x472. The memory map does not say so, and the page tables that the firmware runs under have nothing at linear address 0.',
      }
    })
  },
}
