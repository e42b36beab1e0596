import { InitialPageTable, PagingOff, type StrategyDefinition } from '@trapdoor/kernel'
import { retainBootServices } from '@trapdoor/strategy-legacy-virtual'
import { i386Layout, KERNEL_CONFIGURATION } from './kernel-configuration.ts'

/**
 * L2 on i386: as i386-legacy-virtual, but the way to paging off goes through `initial_page_table`, which has all of low memory at 0 wherever the kernel lies; boot-services
 * memory is kept until SetVirtualAddressMap is over, though not mapped, and the map is a minimal one.
 */
export const i386Linux34: StrategyDefinition = {
  name: 'i386-linux-3.4',
  title:
    'i386: as i386-legacy-virtual, through initial_page_table, with boot services kept and a minimal map (Linux 3.2 to 3.13)',
  mode: 'virtual',
  rewindable: true,
  layout: i386Layout,
  options: KERNEL_CONFIGURATION,
  sources: [
    'Linux 3.4 arch/x86/platform/efi/efi_32.c: efi_call_phys_prelog() loads initial_page_table',
    'Linux 3.4 arch/x86/platform/efi/efi.c: efi_enter_virtual_mode() maps boot services on x86-64 alone',
  ],
  create: () => {
    let alias: InitialPageTable | undefined
    const strategy = retainBootServices()
    return {
      ...strategy,
      reserve: (kernel) => {
        alias = new InitialPageTable(kernel, 'swapper')
        strategy.reserve?.(kernel)
      },
      earlyPath: (kernel) => {
        alias!.sync()
        return new PagingOff(kernel, alias!)
      },
    }
  },
}
