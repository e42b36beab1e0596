import { PAGE_SIZE } from '@trapdoor/core'
import type { ObservedKernel } from '@trapdoor/intake'
import type { Difference } from './differences.ts'
import type { ReplayedKernel } from './replay.ts'

/** Why a difference is none of the model's. */
export interface Explanation {
  readonly reason: string
  /** The kernel's source. */
  readonly source: string
}

/** What is known about both sides of a kernel. */
export interface Evidence {
  readonly observed: ObservedKernel
  readonly model: ReplayedKernel
  readonly differences: readonly Difference[]
  /** Where the map that the model ran on has its memory attributes table, and where this boot's log says that it was. */
  readonly attributesTable: {
    readonly inMap: number | undefined
    readonly inLog: number | undefined
  }
}

type Explain = (difference: Difference, evidence: Evidence) => Explanation | undefined

/** The page allocator chooses where the map for the firmware goes; everything else of these pages must agree. */
const memmapPlace: Explain = (difference, { model, differences }) => {
  const { memmap } = model
  if (difference.subject !== 'EFI page tables' || memmap === undefined) return undefined
  const isModels = (each: Difference): boolean =>
    each.observed === 'nothing' && each.modelAt === memmap.start && each.bytes === memmap.bytes
  const models = differences.find(isModels)
  if (models === undefined) return undefined
  const kernels = differences.filter(
    (each) =>
      each.model === 'nothing' &&
      each.bytes === memmap.bytes &&
      each.subject === 'EFI page tables' &&
      rights(each.observed) === rights(models.model) &&
      isIdentity(each.observed),
  )
  // Of two candidates nobody could say which it is.
  if (kernels.length !== 1) return undefined
  if (difference !== models && difference !== kernels[0]) return undefined
  return {
    reason:
      'the pages of the memory map for the firmware, whose address the page allocator or kexec chooses; number, rights and identity agree',
    source:
      'arch/x86/platform/efi/efi.c, efi_map_regions(): realloc_pages(); efi_64.c, efi_setup_page_tables()',
  }
}

/** The firmware's map is that of another boot of the same machine, in which boot-services memory lay a little elsewhere. */
const attributesTablePlace: Explain = (difference, { attributesTable }) => {
  const { inMap, inLog } = attributesTable
  if (inMap === undefined || inLog === undefined || inMap === inLog) return undefined
  const isModels = difference.modelAt === pageOf(inMap) && difference.observed === 'nothing'
  const isKernels = difference.observedAt === pageOf(inLog) && difference.model === 'nothing'
  if (!isModels && !isKernels) return undefined
  return {
    reason:
      'the page of the memory attributes table: the firmware map was taken from another boot, in which the table lay elsewhere, as both logs say (MEMATTR=)',
    source: 'drivers/firmware/efi/memattr.c, efi_memattr_init(): memblock_reserve()',
  }
}

const EXPLANATIONS: readonly Explain[] = [memmapPlace, attributesTablePlace]

/** Why a difference is none of the model's; undefined where nobody knows. */
export function explainDifference(
  difference: Difference,
  evidence: Evidence,
): Explanation | undefined {
  for (const explain of EXPLANATIONS) {
    const explanation = explain(difference, evidence)
    if (explanation !== undefined) return explanation
  }
  return undefined
}

/** Number, size and rights of a run of leaves, without where they are. */
function rights(leaves: string): string {
  return leaves.split(' at ')[0]!
}

function isIdentity(leaves: string): boolean {
  const [from, to] = leaves.split(' at ')[1]?.split(' to ') ?? []
  return from !== undefined && from === to
}

function pageOf(address: number): number {
  return Math.floor(address / PAGE_SIZE) * PAGE_SIZE
}
