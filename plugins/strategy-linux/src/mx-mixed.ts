import { LAYOUT_4_20, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from './enter-virtual-mode.ts'
import { MixedMode, type MixedModeVersion } from './mixed-mode.ts'
import { LINUX_3_14 } from './t1-top-down-forward.ts'
import { LINUX_5_4 } from './t4-efi-mm.ts'
import { LINUX_6_1 } from './t5-modern.ts'
import type { LinuxVersion } from './version.ts'

/** Linux 3.15. */
const MIXED_3_15: MixedModeVersion = {
  ram: 'shared',
  image: 'image-rwx',
  pointers: 'pa',
  lock: 'none',
  clock: 'called',
}

/** Linux 4.9. */
const MIXED_4_9: MixedModeVersion = {
  ...MIXED_3_15,
  ram: 'mapped',
  image: 'text-rwx',
  pointers: 'page-walk',
}

/** Linux 5.6. */
const MIXED_5_6: MixedModeVersion = {
  ...MIXED_4_9,
  image: 'text-rx',
  pointers: 'checked-page-walk',
  lock: 'spinlock',
  clock: 'unsupported',
}

/** Linux 6.1. */
const MIXED_6_1: MixedModeVersion = { ...MIXED_5_6, image: 'trampoline' }

/**
 * What is alike in all: interrupts are off, as calls do not go through efi_rts_wq nobody recovers from faults, and the map is gone through forwards, which efi_map_next_entry() does where
 * firmware is not EFI_64BIT.
 */
const IN_MIXED_MODE = {
  iteration: 'forward',
  interrupts: 'off',
  faultRecovery: 'none',
} as const satisfies Partial<LinuxVersion>

/** What kernels with CONFIG_EFI_MIXED have in common; on firmware of 64 bits they are linux-3.14 and those after it. */
const CONFIG_EFI_MIXED = {
  mode: 'virtual',
  rewindable: true,
  firmware: 'ia32',
  efiOnlyWithRuntimeMap: true,
} as const satisfies Partial<StrategyDefinition>

const SOURCES = [
  'arch/x86/platform/efi/efi_64.c: efi_setup_page_tables(), efi_thunk()',
  'efi_thunk_64.S',
]

/** MX as it began: whatever firmware gets has to be in the direct map, and nothing keeps calls apart that share a page of stack. */
export const mixed315: StrategyDefinition = {
  ...CONFIG_EFI_MIXED,
  name: 'linux-3.15-mixed',
  title:
    'MX: 32-bit firmware in compatibility mode, 1:1, on trampoline_pgd (Linux 3.15 to 4.5, CONFIG_EFI_MIXED)',
  linux: { from: '3.15', before: '4.6' },
  sources: ['Linux 3.15', ...SOURCES],
  create: () => new EfiVirtualMode({ ...LINUX_3_14, ...IN_MIXED_MODE }, new MixedMode(MIXED_3_15)),
}

/** MX with an efi_pgd of its own, all RAM in it; pointers to the stack, which is in vmalloc space now, are looked up in the page tables. */
export const mixed49: StrategyDefinition = {
  ...CONFIG_EFI_MIXED,
  name: 'linux-4.9-mixed',
  title:
    'MX: as linux-3.15-mixed, on an efi_pgd with all RAM, pointers by page walk (Linux 4.9 to 5.5)',
  layout: LAYOUT_4_20,
  linux: { from: '4.9', before: '5.6' },
  sources: [
    'Linux 4.9',
    ...SOURCES,
    'Linux commits b61a76f8850d "x86/efi: Map RAM into the identity page table for mixed mode", f6697df36bdf "x86/efi: Prevent mixed mode boot corruption with CONFIG_VMAP_STACK=y"',
  ],
  create: () => new EfiVirtualMode({ ...LINUX_5_4, ...IN_MIXED_MODE }, new MixedMode(MIXED_4_9)),
}

/** MX after its review for 5.6: a lock, no arguments that cross pages, and no services that nobody uses. */
export const mixed56: StrategyDefinition = {
  ...CONFIG_EFI_MIXED,
  name: 'linux-5.6-mixed',
  title:
    'MX: as linux-4.9-mixed, with a lock, without arguments that cross pages, without the clock (Linux 5.6 to 6.0)',
  layout: LAYOUT_4_20,
  linux: { from: '5.6', before: '6.1' },
  sources: [
    'Linux 5.10',
    ...SOURCES,
    'Linux commits 83a0a2ea0b99 "efi/x86: Prevent reentrant firmware calls in mixed mode", 8319e9d5ad98 "efi/x86: Handle by-ref arguments covering multiple pages in mixed mode"',
  ],
  create: () => new EfiVirtualMode({ ...LINUX_6_1, ...IN_MIXED_MODE }, new MixedMode(MIXED_5_6)),
}

/** MX today: of the kernel only the page that firmware returns through is executable. */
export const mixed61: StrategyDefinition = {
  ...CONFIG_EFI_MIXED,
  name: 'linux-6.1-mixed',
  title:
    'MX: as linux-5.6-mixed, and of the kernel only the return trampoline is executable (Linux 6.1 and later)',
  layout: LAYOUT_4_20,
  linux: { from: '6.1' },
  sources: [
    'Linux 6.1',
    ...SOURCES,
    'the thunk and the EFI page tables of Linux 6.1.192 on OVMF for ia32, looked at',
  ],
  create: () => new EfiVirtualMode({ ...LINUX_6_1, ...IN_MIXED_MODE }, new MixedMode(MIXED_6_1)),
}
