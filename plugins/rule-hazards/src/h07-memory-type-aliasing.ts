import {
  effectiveMemoryKind,
  formatAddress,
  type MappedRange,
  MemoryKind,
  memoryKindName,
  mtrrKind,
} from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import type { Kernel } from '@trapdoor/kernel'
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
    hooks.tablesInspected.tap('H7', ({ kernel, surveys }) => {
      for (const descriptor of kernel.efi?.memoryMap.filter(isRuntime) ?? []) {
        const start = descriptor.physicalStart
        const end = descriptorEnd(descriptor)
        const aliases = surveys.flatMap((survey) =>
          survey.ranges
            .filter((range) => range.physical < end && range.physical + range.bytes > start)
            .map((range) => ({
              root: survey.root,
              name: survey.name,
              range,
              kind: kindOf(kernel, range, start),
            })),
        )
        const cached = aliases.find((alias) => alias.kind === MemoryKind.WB)
        const uncached = aliases.find(
          (alias) => alias.kind === MemoryKind.UC || alias.kind === MemoryKind.WC,
        )
        if (cached === undefined || uncached === undefined) continue
        report(kernel, {
          message: `${formatAddress(start)} is ${memoryKindName(cached.kind)} in ${cached.name} and ${memoryKindName(uncached.kind)} in ${uncached.name}`,
          explanation: `The runtime region ${formatAddress(start)}-${formatAddress(end - 1)} has two live mappings whose effective types (PAT and MTRR together) differ: at ${formatAddress(cached.range.start)} and at ${formatAddress(uncached.range.start)}. What one writes into the cache the other does not see, and processors may machine-check.`,
          address: addressOf(uncached.range, start),
          root: uncached.root,
          access: 'read',
          actor: 'kernel',
        })
      }
    })
  },
}

function addressOf(range: MappedRange, physical: number): bigint {
  return range.start + BigInt(Math.max(0, physical - range.physical))
}

function kindOf(kernel: Kernel, range: MappedRange, physical: number): MemoryKind {
  const pat = kernel.bootCpu.pat[range.patIndex] ?? MemoryKind.UC
  const at = Math.max(range.physical, physical)
  return effectiveMemoryKind(mtrrKind(kernel.machine.mtrrs, at), pat)
}
