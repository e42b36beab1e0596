import { LAYOUT_4_20, LAYOUT_4_8, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiVirtualMode } from './enter-virtual-mode.ts'
import { MixedMode, type MixedModeVersion } from './mixed-mode.ts'
import { LINUX_3_14 } from './native/linux-3-14.ts'
import { LINUX_4_14 } from './native/linux-4-14.ts'
import { LINUX_4_19 } from './native/linux-4-19.ts'
import { LINUX_4_3 } from './native/linux-4-3.ts'
import { LINUX_4_6 } from './native/linux-4-6.ts'
import { LINUX_4_9 } from './native/linux-4-9.ts'
import { LINUX_5_4 } from './native/linux-5-4.ts'
import { LINUX_6_1 } from './native/linux-6-1.ts'
import { LINUX_6_12 } from './native/linux-6-12.ts'
import { lastOf, type LinuxVersion, type LinuxVersions, type Releases } from './version.ts'

/** Linux 3.15 to 4.5. */
const MIXED_3_15: Releases<MixedModeVersion> = {
  first: { ram: 'shared', image: 'image-rwx', pointers: 'pa', lock: 'none', clock: 'called' },
}

/** Linux 4.6 to 4.8. */
const MIXED_4_6: Releases<MixedModeVersion> = {
  first: { ...lastOf(MIXED_3_15), ram: 'mapped', image: 'text-rwx' },
}

/** Linux 4.9 to 5.5. */
const MIXED_4_9: Releases<MixedModeVersion> = {
  first: { ...lastOf(MIXED_4_6), pointers: 'page-walk' },
  later: { '4.19': { lock: 'spinlock' } },
}

/** Linux 5.6 to 6.0. */
const MIXED_5_6: Releases<MixedModeVersion> = {
  first: {
    ...lastOf(MIXED_4_9),
    image: 'text-rx',
    pointers: 'checked-page-walk',
    clock: 'unsupported',
  },
}

/** Linux 6.1 and later. */
const MIXED_6_1: Releases<MixedModeVersion> = {
  first: { ...lastOf(MIXED_5_6), image: 'trampoline' },
}

/**
 * What is alike in all: interrupts are off, as calls do not go through efi_rts_wq nobody recovers from faults, and the map is gone through forwards, which efi_map_next_entry() does where
 * firmware is not EFI_64BIT.
 */
const IN_MIXED_MODE = {
  iteration: 'forward',
  interrupts: 'off',
  svamInterrupts: 'off',
  faultRecovery: 'none',
} as const satisfies Partial<LinuxVersion>

/** The native versions that one of these spans. */
const NATIVE_3_15: LinuxVersions = { first: LINUX_3_14.first, later: LINUX_4_3.later! }
const NATIVE_4_9: LinuxVersions = {
  first: LINUX_4_9.first,
  later: {
    ...LINUX_4_9.later,
    '4.11': LINUX_4_14.first,
    '4.17': LINUX_4_19.first,
    ...LINUX_5_4.later,
  },
}
const NATIVE_6_1: LinuxVersions = {
  first: LINUX_6_1.first,
  later: { ...LINUX_6_1.later, '6.5': LINUX_6_12.first, ...LINUX_6_12.later },
}

/** What efi_thunk() does of itself up to 4.7: it flushes all before and after, and leaves floating-point registers to firmware. */
const OWN_SWITCH = { flush: 'both-ways', fpu: 'left-to-firmware' } as const

/** What kernels do on firmware of 64 bits, with {@link IN_MIXED_MODE}. */
function inMixedMode(
  { first, later = {} }: LinuxVersions,
  own: Partial<LinuxVersion> = {},
): LinuxVersions {
  const ownIn = (version: Partial<LinuxVersion>): Partial<LinuxVersion> => ({
    ...version,
    ...IN_MIXED_MODE,
    ...own,
  })
  return {
    first: { ...first, ...ownIn({}) },
    later: Object.fromEntries(
      Object.entries(later).map(([release, changes]) => [release, ownIn(changes)]),
    ),
  }
}

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
  linux: { from: '3.15', before: '4.6', as: '3.15' },
  sources: ['Linux 3.15', ...SOURCES],
  create: () => new EfiVirtualMode(inMixedMode(NATIVE_3_15, OWN_SWITCH), new MixedMode(MIXED_3_15)),
}

/** MX with an efi_pgd of its own and all RAM in it. */
export const mixed46: StrategyDefinition = {
  ...CONFIG_EFI_MIXED,
  name: 'linux-4.6-mixed',
  title: 'MX: as linux-3.15-mixed, on an efi_pgd with all RAM (Linux 4.6 to 4.8)',
  linux: { from: '4.6', before: '4.9', as: '4.6' },
  sources: [
    'Linux 4.6',
    ...SOURCES,
    'Linux 4.6 arch/x86/platform/efi/efi_64.c: efi_setup_page_tables()',
    'Linux 4.8 arch/x86/platform/efi/efi_64.c: efi_thunk() calls arch_efi_call_virt_setup()',
  ],
  create: () =>
    new EfiVirtualMode(
      {
        ...inMixedMode(LINUX_4_6, OWN_SWITCH),
        later: { '4.8': { fpu: 'saved' } },
      },
      new MixedMode(MIXED_4_6),
    ),
}

/** MX whose pointers to the stack, which is in vmalloc space now, are looked up in the page tables. */
export const mixed49: StrategyDefinition = {
  ...CONFIG_EFI_MIXED,
  name: 'linux-4.9-mixed',
  title: 'MX: as linux-4.6-mixed, pointers by page walk, and a lock since 4.19 (Linux 4.9 to 5.5)',
  layout: LAYOUT_4_8,
  linux: { from: '4.9', before: '5.6', as: '4.9' },
  sources: [
    'Linux 4.9',
    ...SOURCES,
    'Linux commits f6697df36bdf "x86/efi: Prevent mixed mode boot corruption with CONFIG_VMAP_STACK=y", 83a0a2ea0b99 "efi/x86: Prevent reentrant firmware calls in mixed mode" (in 4.19, not in 4.16)',
  ],
  create: () => new EfiVirtualMode(inMixedMode(NATIVE_4_9), new MixedMode(MIXED_4_9)),
}

/** MX after its review for 5.6: no arguments that cross pages, and no services that nobody uses. */
export const mixed56: StrategyDefinition = {
  ...CONFIG_EFI_MIXED,
  name: 'linux-5.6-mixed',
  title:
    'MX: as linux-4.9-mixed, without arguments that cross pages, without the clock (Linux 5.6 to 6.0)',
  layout: LAYOUT_4_20,
  linux: { from: '5.6', before: '6.1', as: '5.6' },
  sources: [
    'Linux 5.10',
    ...SOURCES,
    'Linux commit 8319e9d5ad98 "efi/x86: Handle by-ref arguments covering multiple pages in mixed mode"',
  ],
  create: () => new EfiVirtualMode(inMixedMode(LINUX_6_1), new MixedMode(MIXED_5_6)),
}

/** MX today: of the kernel only the page that firmware returns through is executable. */
export const mixed61: StrategyDefinition = {
  ...CONFIG_EFI_MIXED,
  name: 'linux-6.1-mixed',
  title:
    'MX: as linux-5.6-mixed, and of the kernel only the return trampoline is executable (Linux 6.1 and later)',
  layout: LAYOUT_4_20,
  linux: { from: '6.1', as: '6.1' },
  sources: [
    'Linux 6.1',
    ...SOURCES,
    'the thunk and the EFI page tables of Linux 6.1.192 on OVMF for ia32, looked at; efi_64.c and efi_thunk_64.S of 6.5, 6.12 and 7.1 do the same',
  ],
  create: () => new EfiVirtualMode(inMixedMode(NATIVE_6_1), new MixedMode(MIXED_6_1)),
}
