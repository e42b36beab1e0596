import type { StrategyDefinition } from '@trapdoor/kernel'
import { enterVirtualMode } from '@trapdoor/strategy-legacy-virtual'
import { i386Layout, KERNEL_CONFIGURATION } from './kernel-configuration.ts'

/**
 * L1 on i386: what 896 MiB of direct map do not cover is ioremap()ed into vmalloc space, and SetVirtualAddressMap is called with paging off, by way of the first entries of
 * `swapper_pg_dir`. Without PAE these alias 8 MiB, where kernels lay in their day; one at 16 MiB (CONFIG_PHYSICAL_START since 2.6.31) is not in them.
 */
export const i386LegacyVirtual: StrategyDefinition = {
  name: 'i386-legacy-virtual',
  title:
    'i386: SetVirtualAddressMap with paging off, into direct map and vmalloc space (Linux up to 3.0)',
  mode: 'virtual',
  rewindable: true,
  layout: i386Layout,
  options: KERNEL_CONFIGURATION,
  sources: [
    'Linux 2.6.35 arch/x86/kernel/efi.c: efi_enter_virtual_mode()',
    'Linux 2.6.35 arch/x86/kernel/efi_32.c: efi_call_phys_prelog(), efi_stub_32.S: efi_call_phys(); the same in 2.6.37, 2.6.39 and 3.0',
    'Linux 2.6.35 arch/x86/include/asm/efi.h: efi_ioremap() is ioremap_cache()',
  ],
  create: () => ({ virtualMap: enterVirtualMode }),
}
