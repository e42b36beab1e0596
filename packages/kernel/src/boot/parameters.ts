import type { Kernel } from '../kernel.ts'
import { isAnyLinuxBefore, isLinux } from '../linux-version.ts'

/** Since when Linux tells which words of its command line it does not know (print_unknown_bootoptions(), init/main.c: in 5.14, not in 5.12). */
const REPORTS_SINCE = '5.14'

/** A word that some versions of Linux have and others do not. */
interface Word {
  readonly name: string
  /** The first version that has it, and the first that no longer does. Left out, it never was in Linux: a patch brought it. */
  readonly from?: string
  readonly before?: string
}

/**
 * Words of their own. `noefi` and `add_efi_memmap` are in all versions that are modelled. Releases are those whose source has a word where the one before has not; two releases apart, both are named.
 */
const WORDS: readonly Word[] = [
  // "EFI: run EFI in physical mode", and RHEL 6.
  { name: 'virtefi' },
  { name: 'physefi' },
  // arch/x86/platform/efi/efi.c: parse_efi_cmdline() (commit d2f7cbe7b26a).
  { name: 'efi', from: '3.14' },
  // drivers/firmware/efi/fake_mem.c: setup_fake_mem(); later arch/x86/platform/efi/fake_mem.c, in 6.8 and not in 6.12.
  { name: 'efi_fake_mem', from: '4.4', before: '6.11' },
  // arch/x86/mm/pti.c: pti_check_boottime_disable(); in stable kernels from 4.4.y on, too.
  { name: 'pti', from: '4.15' },
  { name: 'nopti', from: '4.15' },
  // arch/x86/boot/compressed/aslr.c: choose_kernel_location().
  { name: 'nokaslr', from: '3.14' },
  // arch/x86/boot/compressed/pgtable_64.c: paging_prepare(); in 4.19 and not in 4.16.
  { name: 'no5lvl', from: '4.18' },
]

/** Words behind `efi=` (drivers/firmware/efi/efi.c, arch/x86/platform/efi/efi.c, libstub/efi-stub-helper.c). One that a version does not have is passed over without a word. */
const EFI_WORDS: readonly Word[] = [
  // arch_parse_efi_cmdline(); from 5.6 on in arch/x86/platform/uv/bios_uv.c, for SGI UV1.
  { name: 'old_map', from: '3.14', before: '5.9' },
  // drivers/firmware/efi/efi.c: parse_efi_cmdline().
  { name: 'noruntime', from: '3.18' },
  // parse_efi_cmdline(), with PREEMPT_RT; in 5.17, not in 5.15.
  { name: 'runtime', from: '5.17' },
  // arch_parse_efi_cmdline() of 4.1, which has the memory map printed.
  { name: 'debug', from: '4.1' },
  // The stub's, in 5.2 and not in 5.0: x86 never asks.
  { name: 'novamap', from: '5.1' },
  // In 5.6 and not in 5.4.
  { name: 'nosoftreserve', from: '5.5' },
  // The stub's, in 5.6 and not in 5.4.
  { name: 'disable_early_pci_dma', from: '5.6' },
]

/** What words behind `efi=` do that this machine has nothing for. */
const WITHOUT_EFFECT: Readonly<Record<string, string>> = {
  disable_early_pci_dma: 'no device of this machine masters the bus',
  novamap: 'on x86 the kernel calls SetVirtualAddressMap, and not the stub, which alone reads this',
}

/** What a kernel makes of the words of a command line: those that it understands, without values of `efi=` that it passes over, and the others. */
export interface ReadWords {
  readonly understood: readonly string[]
  readonly unknown: readonly string[]
}

/** Reads the words as the kernel's version does. A kernel that is no version of Linux's understands all of them. */
export function readWords(kernel: Kernel, words: readonly string[]): ReadWords {
  const understood: string[] = []
  const unknown: string[] = []
  for (const word of words) {
    const name = word.split('=', 1)[0]!
    if (!has(kernel, WORDS, name)) unknown.push(word)
    else if (name === 'efi') understood.push(withoutUnknownValues(kernel, word))
    else understood.push(word)
  }
  return { understood, unknown }
}

/** print_unknown_bootoptions(), of the words that are modelled here; which others a kernel knows depends on its configuration. */
export function reportUnknownWords(kernel: Kernel, unknown: readonly string[]): void {
  if (unknown.length === 0 || !isLinux(kernel, REPORTS_SINCE)) return
  kernel.print(
    `Unknown kernel command line parameters "${unknown.join(' ')}", will be passed to user space.`,
  )
}

/** Says which of the words that a kernel has understood change nothing, and why: a reader of the log is not to think otherwise. */
export function reportWordsWithoutEffect(kernel: Kernel): void {
  if (!isLinux(kernel, '0')) return
  for (const [word, reason] of Object.entries(WITHOUT_EFFECT)) {
    if (kernel.commandLine.efi.has(word)) kernel.print(`efi=${word} changes nothing: ${reason}`)
  }
}

function withoutUnknownValues(kernel: Kernel, word: string): string {
  const values = word.slice('efi='.length).split(',')
  return `efi=${values.filter((value) => has(kernel, EFI_WORDS, value)).join(',')}`
}

/** Whether a kernel has a word, or it is none of `words`. */
function has(kernel: Kernel, words: readonly Word[], name: string): boolean {
  const word = words.find((each) => each.name === name)
  if (word === undefined || !isLinux(kernel, '0')) return true
  if (word.from === undefined || !isLinux(kernel, word.from)) return false
  return word.before === undefined || isAnyLinuxBefore(kernel, word.before)
}
