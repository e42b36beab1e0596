import { formatAddress, lowerHalf, tableFrames, upperHalf } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

/** What is written into tables that another root leads to as well changes that one, too. */
export const h17SharedTables: Rule = {
  id: 'H17',
  title: 'Firmware’s low half is made of tables that another address of the kernel uses',
  severity: 'warning',
  advice:
    'give firmware tables of its own below the root, as efi_alloc_page_tables() does since Linux 4.6',
  sources: [
    'Linux 3.14 arch/x86/realmode/init.c: trampoline_pgd[0] = init_level4_pgt[pgd_index(__PAGE_OFFSET)]',
    'Linux commit 67a9108ed431 "x86/efi: Build our own page table structures"',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.tablesInspected.tap('H17', ({ kernel, surveys }) => {
      const { swapper } = kernel.tables
      const tablesOf = (root: number, half: typeof lowerHalf): readonly number[] =>
        tableFrames(kernel.bootCpu.translationContext(root), half(swapper.mode))
      const high = new Set(tablesOf(swapper.root, upperHalf))
      for (const { name, root } of surveys.filter(({ usedForCalls }) => usedForCalls)) {
        const shared = tablesOf(root, lowerHalf).find(
          (frame) => frame !== root / 4096 && high.has(frame),
        )
        if (shared === undefined) continue
        report(kernel, {
          message: `${name} has the table at ${formatAddress(shared * 4096)} in its low half, which is the direct map’s`,
          explanation:
            'What is mapped 1:1 for firmware is changed in the kernel’s own direct map: its rights, its size of pages, its cacheability. And what is unmapped there is gone for the kernel.',
          root,
          actor: 'kernel',
        })
      }
    })
  },
}
