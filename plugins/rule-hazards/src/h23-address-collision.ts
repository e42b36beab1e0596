import { formatAddress } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import { descriptorEnd, isRuntime } from '@trapdoor/uefi'

/** A physical address at which the kernel's half begins cannot have a 1:1 mapping. */
export const h23AddressCollision: Rule = {
  id: 'H23',
  title: 'A runtime region cannot be mapped 1:1',
  severity: 'warning',
  advice:
    'give it a virtual address; on i386, where the kernel’s half begins at 3 GiB, there is no other way',
  sources: [
    'Takao Indoh and H. Peter Anvin, "EFI: run EFI in physical mode", LKML, August 2010: i386 left for later',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.phase.tap('H23', (kernel) => {
      if (kernel.phase !== 'running' || kernel.efi === undefined) return
      const lowHalf = 2 ** (kernel.tables.layout.mode.levels.length === 5 ? 56 : 47)
      const region = kernel.efi.firmwareMap.find(
        (each) => isRuntime(each) && descriptorEnd(each) > lowHalf,
      )
      if (region === undefined) return
      report(kernel, {
        message: `the runtime region at ${formatAddress(region.physicalStart)} lies where linear addresses are the kernel’s`,
        explanation: `Linear addresses from ${formatAddress(lowHalf)} on are not canonical or belong to the kernel: an identity map ends there.`,
        physical: region.physicalStart,
        actor: 'kernel',
      })
    })
  },
}
