import { formatAddress, isCanonical } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import { descriptorEnd, isRuntime } from '@trapdoor/uefi'

/** Physical addresses end at MAXPHYADDR, and linear ones have a hole in the middle. */
export const h22AddressWidth: Rule = {
  id: 'H22',
  title: 'A runtime region has addresses that the CPU does not have',
  severity: 'error',
  advice:
    'leave the descriptor out; count linear address bits by CR4.LA57, not by what the CPU could do',
  sources: ['Intel SDM Vol. 3, 4.1.4 and Vol. 1, 3.3.7.1 "Canonical Addressing"'],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.phase.tap('H22', (kernel) => {
      if (kernel.phase !== 'running' || kernel.efi === undefined) return
      const { maxPhysicalAddressBits } = kernel.machine.features
      const bits = kernel.tables.layout.mode.levels.length === 5 ? 57 : 48
      for (const region of kernel.efi.memoryMap.filter(isRuntime)) {
        const end = descriptorEnd(region)
        const { physicalStart, virtualStart } = region
        if (end > 2 ** maxPhysicalAddressBits) {
          report(kernel, {
            message: `the runtime region at ${formatAddress(physicalStart)} reaches beyond ${maxPhysicalAddressBits} physical address bits`,
            explanation:
              'An entry that maps it has reserved bits set, so that every access through it is a page fault.',
            physical: physicalStart,
            actor: 'kernel',
          })
        } else if (!isCanonical(virtualStart, bits)) {
          report(kernel, {
            message: `firmware was told that ${formatAddress(physicalStart)} is at ${formatAddress(virtualStart)}, which is not canonical`,
            explanation: `With ${bits} bits of linear addresses the bits above must be copies of the last one: an access is #GP before page tables are looked at.`,
            physical: physicalStart,
            actor: 'kernel',
          })
        }
      }
    })
  },
}
