import { formatAddress, inspectAddress, PageFault } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

/** Bytes of kernel text that switches may be in. */
const KERNEL_TEXT_BYTES = 0x40_0000

/** Whether a physical address is in the text of a kernel that lies at `base`. */
function isWithin(physical: number, base: number): boolean {
  return physical >= base && physical < base + KERNEL_TEXT_BYTES
}

/** Every kernel address that a call can reach must be mapped in the firmware's tables as in the kernel's. */
export const h16KernelHalf: Rule = {
  id: 'H16',
  title: 'The firmware’s page tables lack a part of the kernel',
  severity: 'error',
  advice:
    'clone the whole kernel half (PML4 entries 256 to 511), and again whenever it grows; code that switches paging off needs itself at its physical address',
  sources: [
    'RHEL 6 changelog 670850, 664364: "Fix EFI pagetable to map whole memory"',
    'Linux 3.14 arch/x86/platform/efi/efi_64.c: efi_sync_low_kernel_mappings()',
  ],
  rewindable: true,
  watch: ({ diagnose }) => {
    diagnose(({ error, call, kernel, cpu, image, handling }) => {
      if (!(error instanceof PageFault) || kernel === undefined) return undefined
      const physical = Number(error.address)
      const { base } = kernel.image
      if (error.access === 'execute' && image === undefined && isWithin(physical, base)) {
        return {
          message: `the code that leads to the firmware is not mapped at ${formatAddress(error.address)}, its physical address`,
          explanation: `The kernel lies at ${formatAddress(base)}. Whoever switches paging off, or to tables that have the kernel elsewhere, goes on at the physical address of the next instruction, and the alias of low memory does not reach as far.`,
        }
      }
      if (call === undefined || error.address < kernel.tables.kernelHalfStart) return undefined
      const own = inspectAddress(cpu.translationContext(call.before.cr3), error.address)
      if (own.status !== 'mapped') return undefined
      const who = image ?? (handling === undefined ? 'the kernel' : `the ${handling} handler`)
      const why =
        handling === undefined
          ? 'The kernel passed a pointer of its own, as it does to any function.'
          : 'Interrupt handlers run on the page tables that they find, whatever they need of the kernel.'
      return {
        message: `${who} reaches for ${formatAddress(error.address)} inside ${call.service}, which the kernel maps and the tables of the call do not`,
        explanation: `${why} Its page tables map the address to ${formatAddress(own.physical)}, but ${kernel.tables.layout.mode.levels[0]!.entry} entry ${kernel.tables.rootIndex(error.address)} was not copied into the tables that are loaded during calls.`,
      }
    })
  },
}
