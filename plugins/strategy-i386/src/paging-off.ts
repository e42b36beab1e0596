import {
  InitialPageTable,
  type Kernel,
  type LowAlias,
  PagingOff,
  type StrategyDefinition,
  SwapperAlias,
} from '@trapdoor/kernel'
import type { RuntimeServiceName } from '@trapdoor/uefi'
import { i386Layout, KERNEL_CONFIGURATION } from './kernel-configuration.ts'

/** Services whose arguments hold pointers inside, which nobody converts. */
const NOT_CALLED: ReadonlySet<RuntimeServiceName> = new Set([
  'UpdateCapsule',
  'QueryCapsuleCapabilities',
])

function makeAlias(kernel: Kernel, options: Readonly<Record<string, string>>): LowAlias {
  if (options['alias'] === 'swapper') return new SwapperAlias(kernel)
  const initial = new InitialPageTable(kernel, options['after'] === 'swapper' ? 'swapper' : 'task')
  initial.sync()
  return initial
}

/**
 * The physical mode of 2010 on i386, by what is there already: each call as efi_32.c makes the one of SetVirtualAddressMap. Firmware sees all of its 4 GiB where they are, also above
 * PAGE_OFFSET. But pointers have to be physical, which those into vmalloc space and modules cannot be; no interrupt finds its handler meanwhile, not even an NMI; and as
 * everybody shares the alias, calls wait for one another.
 */
export const i386PagingOff: StrategyDefinition = {
  name: 'i386-paging-off',
  title:
    'i386: firmware stays physical; paging is switched off around every call, pointers made physical',
  mode: 'physical',
  rewindable: true,
  layout: i386Layout,
  options: {
    ...KERNEL_CONFIGURATION,
    alias: {
      title: 'where the code that switches is mapped 1:1 meanwhile',
      values: ['initial_page_table', 'swapper'],
      default: 'initial_page_table',
    },
    after: {
      title:
        'what CR3 gets after the call, as in the epilog of 3.2 (swapper) or as reviewers wanted (task)',
      values: ['task', 'swapper'],
      default: 'task',
    },
    save: {
      title:
        'what is kept meanwhile: for each CPU its own, or as in efi_32.c one flag for all and the GDT of the first CPU',
      values: ['perCpu', 'static'],
      default: 'perCpu',
    },
    lock: {
      title: 'whether calls wait for one another, as with efi_rt_lock of early i386 kernels',
      values: ['spinlock', 'none'],
      default: 'spinlock',
    },
  },
  sources: [
    'Linux 2.6.35 arch/x86/kernel/efi_32.c, efi_stub_32.S: efi_call_phys()',
    'Eric W. Biederman, H. Peter Anvin on "EFI: run EFI in physical mode", LKML, August 2010: do i386, too',
    'Linux 3.2 arch/x86/platform/efi/efi_32.c: initial_page_table',
  ],
  create: (options) => {
    let path: PagingOff | undefined
    return {
      serialised: options['lock'] !== 'none',
      setup: (kernel) => {
        path = new PagingOff(kernel, makeAlias(kernel, options), {
          perCpu: options['save'] !== 'static',
        })
      },
      offers: (_kernel, service) => !NOT_CALLED.has(service),
      passedArguments: (call) => path!.passedArguments(call),
      enter: (call) => {
        path!.enter(call)
      },
      leave: (call) => {
        path!.leave(call)
      },
    }
  },
}
