import { formatAddress, MemoryKind, memoryKindName, type TypeConflict } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import { descriptorEnd, isRuntime } from '@trapdoor/uefi'

/** One page of memory must have one effective memory type in all page tables that are alive. */
export const h07MemoryTypeAliasing: Rule = {
  id: 'H7',
  title: 'A page is mapped cached here and uncached there',
  severity: 'warning',
  advice: 'change the direct map together with the firmware’s mapping (set_memory_uc)',
  sources: [
    'Eric W. Biederman, reply to "EFI: run EFI in physical mode", LKML, August 2010',
    'Intel SDM Vol. 3, 12.12.4 "Programming the PAT": multiple mappings of a page',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.tablesInspected.tap('H7', ({ kernel, surveys, conflicts }) => {
      for (const descriptor of kernel.efi?.memoryMap.filter(isRuntime) ?? []) {
        const end = descriptorEnd(descriptor)
        const conflict = conflicts.find(
          (each) =>
            each.start < end && each.end > descriptor.physicalStart && isHarmful(each.mappings),
        )
        if (conflict === undefined) continue
        const { mappings } = conflict
        const cached = mappings.find(({ effective }) => effective === MemoryKind.WB)!
        const uncached = mappings.find(({ effective }) => UNCACHED.has(effective))!
        const start = Math.max(conflict.start, descriptor.physicalStart)
        report(kernel, {
          message: `${formatAddress(start)} is ${memoryKindName(cached.effective)} in ${cached.root} and ${memoryKindName(uncached.effective)} in ${uncached.root}`,
          explanation: `The runtime region ${formatAddress(descriptor.physicalStart)}-${formatAddress(end - 1)} has two live mappings whose effective types (PAT and MTRR together) differ: at ${formatAddress(cached.start)} and at ${formatAddress(uncached.start)}. What one writes into the cache the other does not see, and processors may machine-check.`,
          address: uncached.start + BigInt(start - conflict.start),
          root: surveys.find(({ name }) => name === uncached.root)!.root,
          access: 'read',
          actor: 'kernel',
        })
      }
    })
  },
}

/** Types of which memory is never in a cache. */
const UNCACHED: ReadonlySet<MemoryKind> = new Set([MemoryKind.UC, MemoryKind.WC])

function isHarmful(mappings: TypeConflict['mappings']): boolean {
  return (
    mappings.some(({ effective }) => effective === MemoryKind.WB) &&
    mappings.some(({ effective }) => UNCACHED.has(effective))
  )
}
