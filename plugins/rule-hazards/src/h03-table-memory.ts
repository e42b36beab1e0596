import { formatAddress, PageFault } from '@trapdoor/core'
import type { Death, FindingDraft, Rule } from '@trapdoor/harness'
import { type Kernel, KernelPanic, OutOfMemory } from '@trapdoor/kernel'

/** Page tables for the firmware need memory, and a kernel may have little. */
export const h03TableMemory: Rule = {
  id: 'H3',
  title: 'No memory for the firmware’s page tables',
  severity: 'error',
  advice:
    'map runtime regions alone, or with large pages; without memory for tables go without EFI runtime services rather than panic',
  sources: [
    'Huang Ying, reply to "EFI: run EFI in physical mode", LKML, August 2010',
    'RHEL 6 kernel, arch/x86/kernel/efi_64.c: fill_pud(), fill_pmd(), fill_pte() handle no failure',
    'Linux 6.1 arch/x86/platform/efi/efi_64.c: __map_region() warns, and efi_map_region() has no result',
  ],
  rewindable: true,
  watch: ({ diagnose }) => {
    diagnose((death) => {
      const { error, kernel } = death
      if (error instanceof PageFault) return reachesUnmapped(error, death)
      if (kernel?.phase !== 'efi' || !(error instanceof KernelPanic)) return undefined
      if (!(error instanceof OutOfMemory)) return withoutAnswer(error, kernel)
      const mebibytes = Math.round((kernel.tablePages * 4096) / 2 ** 20)
      return {
        message: `${kernel.name} runs out of memory while it sets up the runtime services`,
        explanation: `The kernel has ${mebibytes} MiB of page tables. With pages of 4 KiB, 8 GiB of memory take 16 MiB of tables; a crash kernel has only what was reserved for it, and must map the whole machine all the same. Nothing in the strategy has an answer to an allocation that fails: ${error.message}.`,
      }
    })
  },
}

/** What ends a kernel that has seen an allocation fail, or has not even looked. */
function withoutAnswer({ message }: KernelPanic, { name }: Kernel): FindingDraft | undefined {
  const hasLooked = message.startsWith('Unable to allocate')
  if (!hasLooked && !message.startsWith('unable to handle kernel NULL pointer')) return undefined
  return {
    message: `${name} stops for want of memory while it sets up the runtime services: ${message}`,
    explanation: hasLooked
      ? 'An allocation failed, and the kernel has no other answer than to stop.'
      : 'An allocation failed, and the code that made it does not look: it goes on with a null pointer.',
    actor: 'kernel',
  }
}

/** A region that the kernel has told of when it could not map it, and that firmware needs. */
function reachesUnmapped(
  { address }: PageFault,
  { kernel, call }: Death,
): FindingDraft | undefined {
  const unmapped = kernel?.unmappedRegions.find(
    ({ virtual, bytes }) => virtual <= address && address < virtual + BigInt(bytes),
  )
  if (kernel === undefined || call === undefined || unmapped === undefined) return undefined
  return {
    message: `${call.service} needs ${formatAddress(address)}, for which ${kernel.name} had no memory for page tables`,
    explanation: `When the kernel mapped the region at ${formatAddress(unmapped.virtual)}, an allocation failed. It printed "Error mapping PA", went on without the region, and called the firmware all the same.`,
  }
}
