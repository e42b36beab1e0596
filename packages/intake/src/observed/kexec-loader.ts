import type { ObservedRange } from './iomem.ts'

/** How a kernel came to be where it ran, where another one started it. */
export interface ObservedLoader {
  /** The system call; undefined where nothing tells. */
  readonly syscall: 'kexec_load' | 'kexec_file_load' | undefined
  /** Whether it was `kexec --noefi`. */
  readonly noEfi: boolean
  /** Physical address of its SETUP_EFI node; undefined where it got none. */
  readonly setupEfi: number | undefined
}

/** Bytes of a SETUP_EFI node: struct setup_data and struct efi_setup_data (arch/x86/include/asm/efi.h). */
const SETUP_EFI_BYTES = 16 + 96
const PAGE = 0x1000

/** What the observed machine's init did by each word of `t.do=`, which was on the command line of the kernel before. */
const ACTIONS: Readonly<Record<string, ObservedLoader['syscall']>> = {
  kexec_load: 'kexec_load',
  kexec_dbg: 'kexec_load',
  kexec_noefi: 'kexec_load',
  kdump_load: 'kexec_load',
  kexec_file: 'kexec_file_load',
  kdump_file: 'kexec_file_load',
}

/**
 * How a kernel was loaded: by the actions that the kernel before it was asked for, else by where its setup_data is. kexec-tools give each node pages of its own (add_setup_data(),
 * kexec/arch/i386/x86-linux-setup.c), the kernel puts all of them behind its boot_params (bzImage64_load(), arch/x86/kernel/kexec-bzimage64.c).
 */
export function loaderOf(
  commandLineBefore: string,
  setupData: readonly ObservedRange[],
): ObservedLoader {
  const actions = /(?:^|\s)t\.do=(\S+)/.exec(commandLineBefore)?.[1]?.split(',') ?? []
  const action = actions.findLast((each) => each in ACTIONS)
  const setupEfi = setupData.find(({ start, end }) => end - start === SETUP_EFI_BYTES)?.start
  return {
    syscall: action === undefined ? syscallBy(setupData) : ACTIONS[action],
    noEfi: action === 'kexec_noefi',
    setupEfi,
  }
}

function syscallBy(setupData: readonly ObservedRange[]): ObservedLoader['syscall'] {
  if (setupData.length === 0) return undefined
  return setupData.every(({ start }) => start % PAGE === 0) ? 'kexec_load' : 'kexec_file_load'
}
