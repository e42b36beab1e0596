import { CpuException, formatAddress, PageFault, PageFaultBit } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import { KernelPanic } from '@trapdoor/kernel'

/** SetVirtualAddressMap works once, and converts what the firmware remembers to convert. */
export const h08OneWay: Rule = {
  id: 'H8',
  title: 'SetVirtualAddressMap is one-way',
  severity: 'error',
  advice:
    'leave firmware in physical mode, or hand the virtual addresses and the tables’ physical addresses to the next kernel',
  sources: [
    'UEFI 2.10, 8.4.1 SetVirtualAddressMap()',
    'edk2 MdeModulePkg/Core/RuntimeDxe/Runtime.c: RuntimeDriverSetVirtualAddressMap()',
    '"kdump does not work on EFI", kexec list and LKML, July and August 2010',
  ],
  watch: ({ diagnose }) => {
    diagnose((death) => {
      const { error, call, kernel, convertedBefore, image } = death
      if (error instanceof KernelPanic && convertedBefore) {
        return {
          message: `${kernel?.name ?? 'the kernel'} panics: ${error.message}`,
          explanation:
            'The kernel before this one has called SetVirtualAddressMap. Firmware takes it once and answers EFI_UNSUPPORTED from then on, or worse.',
        }
      }
      if (!(error instanceof CpuException)) return undefined
      const fault = error instanceof PageFault ? error : undefined
      if (convertedBefore && call === undefined && kernel?.phase === 'efi_init') {
        return readsConvertedTable(error, fault, kernel.name)
      }
      if (call === undefined || fault === undefined) return undefined
      const inVirtualMode = kernel?.efi?.virtualMode === true
      if (inVirtualMode && fault.address < 2n ** 47n) {
        return {
          message: `${image ?? 'firmware'} uses the physical address ${formatAddress(fault.address)} inside ${call.service}, after SetVirtualAddressMap`,
          explanation:
            'The firmware was told its virtual addresses and has converted its pointers, but not this one. The page tables of the call map nothing at physical addresses, so the old pointer faults.',
        }
      }
      const call0 = kernel?.efi
      if (call0 !== undefined && !inVirtualMode && !convertedBefore && fault.address >= 2n ** 47n) {
        return {
          message: `${image ?? 'firmware'} follows ${formatAddress(fault.address)} inside ${call.service}, a pointer that only SetVirtualAddressMap would make valid`,
          explanation:
            'Nobody has called SetVirtualAddressMap on this machine: the firmware still runs at its physical addresses. Its code relies on the conversion having happened.',
        }
      }
      if (convertedBefore) {
        return {
          message: `${image ?? 'firmware'} faults at ${formatAddress(fault.address)} inside ${call.service}, at an address that an earlier kernel gave it`,
          explanation:
            'An earlier kernel on this machine has told the firmware its virtual addresses, and nothing takes them back. This kernel does not map them.',
        }
      }
      return undefined
    })
  },
}

function readsConvertedTable(
  error: CpuException,
  fault: PageFault | undefined,
  kernel: string,
): { message: string; explanation: string } {
  const reserved = fault !== undefined && (fault.errorCode & PageFaultBit.Reserved) !== 0
  return {
    message: `${kernel} dies in efi_init() reading the system table that SetVirtualAddressMap has converted`,
    explanation: `efi_init() takes the pointers in the EFI system table and its configuration tables for physical addresses and maps them with early_ioremap(). The kernel before this one has called SetVirtualAddressMap, and the firmware replaced them by that kernel’s virtual addresses. ${
      reserved
        ? 'Such an address has bits that no physical address of this processor has: they end up in reserved bits of the page-table entry, which is a page fault long before there is a console.'
        : `What is mapped in its place is not what it should be: ${error.message}.`
    }`,
  }
}
