import { formatAddress, inspectAddress, PageFault } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

const KERNEL_HALF = 0xffff_8000_0000_0000n

/** Every kernel address that a call can reach must be mapped in the firmware's tables as in the kernel's. */
export const h16KernelHalf: Rule = {
  id: 'H16',
  title: 'The firmware’s page tables lack a part of the kernel',
  severity: 'error',
  advice: 'clone the whole kernel half (PML4 entries 256 to 511), and again whenever it grows',
  sources: [
    'RHEL 6 changelog 670850, 664364: "Fix EFI pagetable to map whole memory"',
    'Linux 3.14 arch/x86/platform/efi/efi_64.c: efi_sync_low_kernel_mappings()',
  ],
  rewindable: true,
  watch: ({ diagnose }) => {
    diagnose(({ error, call, kernel, cpu, image }) => {
      if (!(error instanceof PageFault) || call === undefined || kernel === undefined)
        return undefined
      if (error.address < KERNEL_HALF) return undefined
      const own = inspectAddress(cpu.translationContext(call.before.cr3), error.address)
      if (own.status !== 'mapped') return undefined
      return {
        message: `${image ?? 'the kernel'} reaches for ${formatAddress(error.address)} inside ${call.service}, which the kernel maps and the tables of the call do not`,
        explanation: `The kernel passed a pointer of its own, as it does to any function. Its page tables map the address to ${formatAddress(own.physical)}, but PML4 entry ${Number((error.address >> 39n) & 511n)} was not copied into the tables that are loaded during calls.`,
      }
    })
  },
}
