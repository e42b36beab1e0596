import {
  compareVersions,
  InitialPageTable,
  isLinux,
  type Kernel,
  type KernelVariable,
  PagingOff,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import { retainBootServices } from '@trapdoor/strategy-legacy-virtual'
import { i386Layout, KERNEL_CONFIGURATION } from './kernel-configuration.ts'

/** Whether the kernel is Linux of `version` or later: 3.18 where its profile names none. */
function isSince(kernel: Kernel, version: string): boolean {
  return compareVersions('3.18', version) >= 0 || isLinux(kernel, version)
}

/**
 * What i386 has done since: regions and SetVirtualAddressMap as in i386-linux-3.4, as efi_32.c has no efi_pgd, takes no SETUP_EFI and goes through the map forwards; calls one after another, between
 * kernel_fpu_begin() and kernel_fpu_end(), on the page tables of the current task. Nobody recovers from faults of firmware: that is for x86-64 alone.
 */
export const i386Linux318: StrategyDefinition = {
  name: 'i386-linux-3.18',
  title:
    'i386: as i386-linux-3.4, with efi_runtime_lock and floating-point registers kept (Linux 3.18 and later)',
  mode: 'virtual',
  rewindable: true,
  layout: i386Layout,
  options: KERNEL_CONFIGURATION,
  sources: [
    'Linux 3.18 arch/x86/include/asm/efi.h, CONFIG_X86_32: efi_call_virt() between kernel_fpu_begin() and kernel_fpu_end(), efi_ioremap() is ioremap_cache()',
    'Linux 7.1 arch/x86/platform/efi/efi_32.c: efi_map_region(), efi_set_virtual_address_map(); efi_sync_low_kernel_mappings(), efi_map_region_fixed() and parse_efi_setup() are empty',
    'Linux 5.4 arch/x86/platform/efi/quirks.c: efi_recover_from_page_fault() returns at once without CONFIG_X86_64',
  ],
  create: () => {
    let alias: InitialPageTable | undefined
    let savedMxcsr: KernelVariable | undefined
    const retained = retainBootServices(isSince)
    return {
      ...retained,
      serialised: true,
      lockOf: () => undefined,
      reserve: (kernel) => {
        alias = new InitialPageTable(kernel, 'swapper')
        retained.reserve?.(kernel)
      },
      earlyPath: (kernel) => {
        alias!.sync()
        return new PagingOff(kernel, alias!)
      },
      setup: (kernel) => {
        savedMxcsr = kernel.variable({ perCpu: true })
      },
      enter: ({ cpu }) => {
        savedMxcsr!.write(cpu, BigInt(cpu.mxcsr))
      },
      leave: ({ before, cpu }) => {
        cpu.mxcsr = Number(savedMxcsr!.read(cpu))
        cpu.floatingPoint = before.floatingPoint
      },
    }
  },
}
