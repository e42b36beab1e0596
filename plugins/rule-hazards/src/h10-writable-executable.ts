import { formatAddress, PageFault, PageFaultBit, physicalAt } from '@trapdoor/core'
import type { Death, Rule } from '@trapdoor/harness'
import { memoryTypeName } from '@trapdoor/uefi'

/** Pages that are writable and executable at once, and code where nothing is executable. */
export const h10WritableExecutable: Rule = {
  id: 'H10',
  title: 'Execution rights',
  severity: 'info',
  advice:
    'map runtime code executable and nothing else; with a memory attributes table make code read-only too',
  sources: [
    'H. Peter Anvin, reply to "EFI: run EFI in physical mode", LKML, August 2010',
    'UEFI 2.10, 4.6.4 EFI_MEMORY_ATTRIBUTES_TABLE',
  ],
  rewindable: true,
  watch: ({ hooks, report, diagnose }) => {
    hooks.tablesInspected.tap('H10', ({ kernel, surveys }) => {
      for (const survey of surveys) {
        const both = survey.ranges.filter((range) => range.writable && range.executable)
        const [first] = both
        if (first === undefined || !survey.usedForCalls) continue
        const bytes = both.reduce((sum, range) => sum + range.bytes, 0)
        report(kernel, {
          message: `${Math.round(bytes / 2 ** 18) / 4} MiB are writable and executable in ${survey.name}`,
          explanation: `Whatever can write there can run code there. ${both.length === 1 ? 'The range begins' : `The first of ${both.length} ranges begins`} at ${formatAddress(first.start)}.`,
          address: first.start,
          root: survey.root,
          access: 'execute',
          actor: 'kernel',
        })
      }
    })
    diagnose((death) => {
      const { error, call, image } = death
      if (!(error instanceof PageFault) || call === undefined) return undefined
      const writesReadOnly =
        (error.errorCode & PageFaultBit.Write) !== 0 &&
        (error.errorCode & PageFaultBit.Present) !== 0
      if (!writesReadOnly) return undefined
      const type = typeAt(death, error)
      return {
        message: `${image ?? 'firmware'} writes to ${type} at ${formatAddress(error.address)} inside ${call.service}, which is mapped read-only`,
        explanation: `The page is there, but not to be written to: a strategy that applies a memory attributes table takes the right away from what the table calls read-only.`,
      }
    })
    diagnose((death) => {
      const { error, call, kernel, cpu } = death
      if (!(error instanceof PageFault) || call === undefined || kernel === undefined)
        return undefined
      const executesData =
        (error.errorCode & PageFaultBit.Instruction) !== 0 &&
        (error.errorCode & PageFaultBit.Present) !== 0
      if (!executesData) return undefined
      const type = typeAt(death, error)
      return {
        message: `firmware runs code in ${type} inside ${call.service}, which is mapped without execution rights`,
        explanation: `The page is there, but the walk ends at an entry with NX set: this strategy makes only RuntimeServicesCode executable, and the code lies in ${type}.`,
        actor: cpu.calls.at(-1)?.gate.image ?? 'kernel',
      }
    })
  },
}

/** What the map calls the memory that is mapped where a fault was. */
function typeAt({ cpu, descriptorAt }: Death, { address }: PageFault): string {
  const physical = physicalAt(cpu.translationContext(), address)
  const descriptor = physical === undefined ? undefined : descriptorAt(physical)
  return descriptor === undefined ? 'memory outside the map' : memoryTypeName(descriptor.type)
}
