import { formatAddress } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import { isRuntime, MemoryType } from '@trapdoor/uefi'

/** XD in a paging-structure entry counts for all below it. */
const NO_EXECUTE = 1n << 63n

/** An upper entry that forbids execution undoes every executable leaf below: what page-table isolation does to entries with U/S. */
export const h12NoExecuteAbove: Rule = {
  id: 'H12',
  title: 'Runtime code is executable in its leaf, and not in an entry above',
  severity: 'error',
  advice: 'clear NX in the root entry, as efi_call_phys_prolog() does since page-table isolation',
  sources: [
    'Linux 4.19 arch/x86/platform/efi/efi_64.c: efi_call_phys_prolog() clears _PAGE_NX',
    'Linux 4.15 arch/x86/mm/pti.c: __pti_set_user_pgtbl() poisons the kernel’s low entries with NX',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.tablesInspected.tap('H12', ({ kernel, surveys }) => {
      const code = kernel.efi?.firmwareMap.filter(
        (region) => isRuntime(region) && region.type === MemoryType.RuntimeServicesCode,
      )
      for (const survey of surveys.filter(({ usedForCalls }) => usedForCalls)) {
        for (const { physicalStart } of code ?? []) {
          const { status, steps } = survey.inspect(BigInt(physicalStart))
          const leaf = steps.at(-1)
          if (status !== 'mapped' || leaf === undefined) continue
          const above = steps.slice(0, -1).find(({ value }) => (value & NO_EXECUTE) !== 0n)
          if (above === undefined || (leaf.value & NO_EXECUTE) !== 0n) continue
          report(kernel, {
            message: `${survey.name} forbids execution of ${formatAddress(physicalStart)} in its ${above.entry}`,
            explanation: `The leaf allows it, but NX counts at every level: entry ${above.index} of the table at ${formatAddress(above.table)} has it set for everything below.`,
            address: BigInt(physicalStart),
            root: survey.root,
            access: 'execute',
            actor: 'kernel',
          })
        }
      }
    })
  },
}
