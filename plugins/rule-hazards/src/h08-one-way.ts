import {
  CpuException,
  formatAddress,
  GeneralProtection,
  PageFault,
  PageFaultBit,
} from '@trapdoor/core'
import type { Death, FindingDraft, Rule } from '@trapdoor/harness'
import { type Kernel, KernelPanic } from '@trapdoor/kernel'
import { EfiStatus, efiStatusName, isEfiError, isRuntime } from '@trapdoor/uefi'
import { couldBePhysical } from './could-be-physical.ts'

type Draft = FindingDraft | undefined

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
  rewindable: true,
  watch: ({ hooks, report, diagnose }) => {
    hooks.callReturned.tap('H8', (call) => {
      if (call.service !== 'SetVirtualAddressMap' || !isEfiError(call.status)) return
      report(call.kernel, {
        message: `firmware refuses SetVirtualAddressMap with ${efiStatusName(call.status)}, and cannot be asked again`,
        explanation:
          call.status === EfiStatus.UNSUPPORTED
            ? 'Firmware takes this call once after ExitBootServices. A boot loader or a kernel before this one has made it, or an attempt that failed, which counts: firmware notes that it is virtual before it converts anything.'
            : 'Firmware notes that it is virtual before it converts anything: what it has converted so far stays so, and the next attempt is EFI_UNSUPPORTED.',
        call,
      })
    })
    diagnose((death) => {
      const { error, call, kernel, convertedBefore } = death
      if (error instanceof KernelPanic && convertedBefore) {
        return {
          message: `${kernel?.name ?? 'the kernel'} panics: ${error.message}`,
          explanation:
            'The kernel before this one has called SetVirtualAddressMap. Firmware takes it once and answers EFI_UNSUPPORTED from then on, or worse.',
        }
      }
      if (!(error instanceof CpuException)) return undefined
      if (convertedBefore && call === undefined && kernel?.phase === 'efi_init') {
        return readsConverted(error, kernel)
      }
      if (call === undefined || kernel?.efi === undefined) return undefined
      return kernel.efi.virtualMode
        ? afterConversion(death, call.service)
        : withoutConversion(death, call.service)
    })
  },
}

/** Firmware that was told virtual addresses, and an access at a physical one. */
function afterConversion({ error, kernel, image, descriptorAt }: Death, service: string): Draft {
  if (!(error instanceof PageFault) || !couldBePhysical(kernel, error.address)) return undefined
  const descriptor = descriptorAt(Number(error.address))
  // Elsewhere it is not the conversion that is missing: nobody announced the memory.
  if (descriptor === undefined || !isRuntime(descriptor)) return undefined
  return {
    message: `${image ?? 'firmware'} uses the physical address ${formatAddress(error.address)} inside ${service}, after SetVirtualAddressMap`,
    explanation:
      'The firmware was told its virtual addresses and has converted its pointers, but not this one. The page tables of the call map nothing at physical addresses, so the old pointer faults.',
  }
}

/** Firmware that was never told virtual addresses, and a pointer that is no physical one. */
function withoutConversion(death: Death, service: string): Draft {
  const { error, kernel, image, convertedBefore } = death
  if (convertedBefore && image === undefined) {
    const astray = callsAstray(death, service)
    if (astray !== undefined) return astray
  }
  const address =
    error instanceof PageFault
      ? error.address
      : error instanceof GeneralProtection
        ? error.value
        : 0n
  if (couldBePhysical(kernel, address)) return undefined
  const who = image ?? 'firmware'
  if (service === 'SetVirtualAddressMap' && !convertedBefore) {
    return {
      message: `${who} uses ${formatAddress(address)} inside SetVirtualAddressMap, before it has returned`,
      explanation:
        'Firmware was told its virtual addresses, and some of it uses them at once. The page tables that SetVirtualAddressMap runs under do not map this address: only when the call has returned must they, says the specification.',
    }
  }
  if (convertedBefore) {
    return {
      message: `${who} uses ${formatAddress(address)} inside ${service}, an address that an earlier kernel gave it`,
      explanation:
        'An earlier kernel on this machine has told the firmware its virtual addresses, and nothing takes them back. This kernel does not map them.',
    }
  }
  return {
    message: `${who} follows a pointer that holds ${formatAddress(address)} inside ${service}, where nobody has called SetVirtualAddressMap`,
    explanation:
      'No physical address looks like this: the pointer was never given a value. This strategy leaves firmware in physical mode, so that its address-change events have never run, and code that relies on them having set its pointers up works with what was in memory.',
  }
}

/**
 * A kernel that has read what lies at an address that the kernel before it had given the firmware, as if it were a physical one, and has found no runtime table there. With 32 bits every
 * linear address is a physical one, too, so that efi_init() itself goes well.
 */
function callsAstray({ error, kernel, descriptorAt }: Death, service: string): Draft {
  const efi = kernel?.efi
  if (kernel === undefined || efi === undefined) return undefined
  const table = descriptorAt(Number(efi.runtimeAddress))
  if (table !== undefined && isRuntime(table)) return undefined
  return {
    message: `${kernel.name} calls ${service} by a runtime table that it has read at ${formatAddress(efi.runtimeAddress)}, an address that an earlier kernel gave the firmware`,
    explanation: `efi_init() takes the pointers in the EFI system table for physical addresses. SetVirtualAddressMap had replaced them by the virtual ones of the kernel before this one. On this CPU such a number is a physical address as well: something else was read there, and its words were taken for functions (${error.message}).`,
  }
}

/** What efi_init() or dmi_scan_machine() died of. */
function readsConverted(error: CpuException, kernel: Kernel): Draft {
  const reserved =
    error instanceof PageFault && (error.errorCode & PageFaultBit.Reserved) !== 0
      ? 'Such an address has bits that no physical address of this processor has: they end up in reserved bits of the page-table entry, which is a page fault long before there is a console.'
      : `What is mapped in its place is not what it should be: ${error.message}.`
  // The tables themselves were read: it is the address in one of them that leads astray.
  return kernel.efi === undefined
    ? {
        message: `${kernel.name} dies in efi_init() reading the system table that SetVirtualAddressMap has converted`,
        explanation: `efi_init() takes the pointers in the EFI system table for physical addresses and maps them with early_ioremap(). The kernel before this one has called SetVirtualAddressMap, and the firmware replaced them by that kernel’s virtual addresses. ${reserved}`,
      }
    : {
        message: `${kernel.name} dies in dmi_scan_machine() at the address of a configuration table that SetVirtualAddressMap has converted`,
        explanation: `The system table was read well, but the firmware has also converted a pointer in the configuration table, which the specification leaves to drivers. The kernel takes it for the physical address of the SMBIOS tables. ${reserved}`,
      }
}
