import type { Rule } from '@trapdoor/harness'
import { KernelPanic } from '@trapdoor/kernel'

/** Before the page allocator is up, page attributes cannot be changed: a large page may have to be split. */
export const h04AllocatorPhase: Rule = {
  id: 'H4',
  title: 'Page attributes were changed before there was a page allocator',
  severity: 'error',
  advice:
    'change attributes in efi_enter_virtual_mode() or later, or build early tables with the early allocator',
  sources: [
    'Linux 2.6.35 arch/x86/mm/pageattr.c: split_large_page() calls alloc_pages()',
    'Linux 2.6.35 init/main.c: mm_init() before efi_enter_virtual_mode()',
  ],
  rewindable: true,
  watch: ({ diagnose }) => {
    diagnose(({ error, kernel }) => {
      if (!(error instanceof KernelPanic) || kernel === undefined) return undefined
      if (!error.message.startsWith('change_page_attr before the page allocator')) return undefined
      return {
        message: `${kernel.name} changes page attributes in phase ${kernel.phase}, before mm_init()`,
        explanation:
          'set_memory_*() may have to split a large page of the direct map, and takes a page for the new table from the page allocator. There is none yet.',
        actor: 'kernel',
      }
    })
  },
}
