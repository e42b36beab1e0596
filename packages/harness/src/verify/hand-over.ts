import type { ObservedKernel } from '@trapdoor/intake'
import type { Difference, Subject } from './difference.ts'
import type { ComparedKernels } from './differences.ts'
import type { ReplayedKernel } from './replay.ts'

/** What a kernel got from the one that started it, beside memory maps: SETUP_EFI, and tables that are where they were and what they were. */
export function compareHandOver(kernels: ComparedKernels): Difference[] {
  const { observed, model } = kernels
  return [
    ...compareSetupData(observed, model),
    ...compareTables(kernels),
    ...compareAttributesTable(observed, model),
  ]
}

/** Whether a kernel that was started by another got SETUP_EFI. */
function compareSetupData({ loader }: ObservedKernel, model: ReplayedKernel): Difference[] {
  if (loader === undefined) return []
  return compareWords(
    'setup_data',
    loader.setupEfi === undefined ? 'no SETUP_EFI' : 'SETUP_EFI',
    model.hasSetupEfi ? 'SETUP_EFI' : 'no SETUP_EFI',
  )
}

/**
 * Whether a kernel finds the configuration tables where the one before found them. Where that is differs: the model's firmware has tables of its own. What only one of two versions knows is
 * not compared.
 */
function compareTables({ observed, model, before }: ComparedKernels): Difference[] {
  if (before === undefined) return []
  return compareWords(
    'configuration tables',
    whereNow(observed.tables, before.observed.tables),
    whereNow(model.tables, before.model.tables),
  )
}

function whereNow(now: ReadonlyMap<string, number>, then: ReadonlyMap<string, number>): string {
  const moved = [...now].filter(([name, address]) => then.has(name) && then.get(name) !== address)
  return moved.length === 0
    ? 'where the kernel before had them'
    : `${moved.length} of them elsewhere`
}

/**
 * Whether the memory attributes table was still one. A kernel of the model that does without EFI has not looked, and where nobody knows where kexec put the image (/proc/iomem), nobody knows what it
 * overwrote.
 */
function compareAttributesTable(observed: ObservedKernel, model: ReplayedKernel): Difference[] {
  if (model.efiMap === undefined) return []
  if (observed.loader !== undefined && observed.iomem?.image === undefined) return []
  return compareWords(
    'memory attributes table',
    observed.refusesAttributesTable ? 'overwritten' : 'as it was',
    model.refusesAttributesTable ? 'overwritten' : 'as it was',
  )
}

function compareWords(subject: Subject, observed: string, model: string): Difference[] {
  return observed === model ? [] : [{ subject, observed, model }]
}
