import { compareVersions, isLinux, type Kernel } from '@trapdoor/kernel'

/** What one version of Linux does differently from another in efi_enter_virtual_mode() and in its calls. */
export interface LinuxVersion {
  /** The root that firmware runs under. */
  readonly pageTable: 'trampoline_pgd' | 'efi_pgd'
  /** The order in which efi_map_regions() goes through the map. */
  readonly iteration: 'forward' | 'reverse'
  /** Whether data is executable like code: no NX before 5.6. */
  readonly executable: 'everything' | 'code'
  /** How page 0 is mapped 1:1 (4.10 and later). */
  readonly page0: 'unmapped' | 'executable' | 'no-execute'
  /**
   * What happens to boot-services memory that is not this function's to free: left out of the map, or marked with EFI_MEMORY_RUNTIME (can_free_region(), 4.5 and later; 4.4.y too).
   */
  readonly sharedBootServices: 'forget' | 'mark'
  /** Whether the EFI tables keep boot-services memory mapped after it was freed: efi_unmap_pages() came with 5.0. */
  readonly freedBootServices: 'mapped' | 'unmapped'
  /** Whether descriptors that cannot be right are left out (4.10 and later). */
  readonly cleanMemmap: boolean
  /** Which of the firmware's tables take rights away: the properties table (4.6 and later), before it the memory attributes table (4.11 and later), which alone counts in 6.13 and later. */
  readonly tighten: 'none' | 'properties' | 'attributes-or-properties' | 'attributes'
  /** Whether Apple's firmware is taken for EFI 1.10, whatever it says (f5390cd0b43c, Linux 5.17 and stable kernels). */
  readonly apple: 'as-it-says' | 'efi-1.10'
  /** The last version of the memory attributes table that is read: 1, and 2 since 6.2 ("efi: Accept version 2 of memory attributes table"), and in the 6.1.y whose boots were watched. */
  readonly lastAttributesVersion: 1 | 2
  /** What follows when SetVirtualAddressMap fails: panic() up to 5.5, as "efi/x86: Don't panic or BUG() on non-critical error conditions" came with 5.6 (and with later 5.4.y). */
  readonly svamFailure: 'panic' | 'disable'
  /** What calls wait for: callers of variable services and of the clock have a lock each (up to 3.17), or all wait for one another ("efi: implement mandatory locking for UEFI Runtime Services"). */
  readonly lock: 'of-the-callers' | 'efi_runtime_lock'
  /** Whether ResetSystem gives up with a warning where another call holds the lock (down_trylock(), 5.15 and later), or waits like every other service. */
  readonly resetSystem: 'waits' | 'gives-up'
  /**
   * How the system table is found again: among the regions that get virtual addresses, before SetVirtualAddressMap, else BUG_ON(!efi.systab) (up to 5.6); or read where it is, 1:1, after
   * the call (5.7 and later: efi_set_virtual_address_map() takes `runtime` out of it).
   */
  readonly systab: 'looked-up' | 'read-one-to-one'
  /** What kexec passes on: copies of what has the RUNTIME attribute and is no boot-services memory (save_runtime_map(), up to 4.8), or efi.memmap as it is then. */
  readonly runtimeMap: 'copied' | 'efi.memmap'
  /** RFLAGS.IF in SetVirtualAddressMap: as it was, on, where the prolog leaves at once without efi=old_map (3.14 to 4.0), else off. */
  readonly svamInterrupts: 'on' | 'off'
  /** RFLAGS.IF in calls: off under spinlocks that save flags (to 4.5), on under one that does not (4.6 to 4.8, ca0e30dcaa53) and under a semaphore (4.9 and later). */
  readonly interrupts: 'off' | 'on'
  /**
   * What of a process's floating-point state a call keeps: none (efi_thunk() up to 4.7), XMM0 to XMM5, as efi_call() does, or all, between kernel_fpu_begin() and kernel_fpu_end() (3.16 and later), which may also give firmware the FCW and MXCSR that it may count on (5.8 and
   * later; 7ad816762f9b, and efi_fpu_begin() since e45122893a98).
   */
  readonly fpu: 'left-to-firmware' | 'volatile-xmm' | 'saved' | 'saved-and-initialised'
  /**
   * What is done beside the writes to CR3: __flush_tlb_all() on the way back, in RESTORE_PGT (3.14 to 4.5), on both ways (4.6 to 4.16), or nothing, as switch_mm() does (4.17 and later).
   */
  readonly flush: 'on-return' | 'both-ways' | 'none'
  /** Whether a page fault in firmware stops only the call (4.20 and later). */
  readonly faultRecovery: 'none' | 'abort-call'
  /** Where indirect-branch tracking is off: nowhere, in calls (5.18 and later), in SetVirtualAddressMap too (6.5 and later, and 6.1.y). */
  readonly branchTrackingOff: 'never' | 'calls' | 'calls-and-svam'
  /** Whether tracking stays on in calls where the memory attributes table says that runtime code is marked for it (6.4 and later). */
  readonly branchTrackingByTable: boolean
  /** Whether CR4.LASS is cleared in calls (efi_disable_lass(), 7.1 and later). */
  readonly lassOff: boolean
  /** Whether a kernel that was started by kexec deletes the DUMMY variable, too (up to 5.3; 2ecb7402cfc7). */
  readonly dummyAfterKexec: 'deleted' | 'left'
  /** Where the regions of the kernel before are mapped after kexec: efi_map_region_fixed() has done both since 4.9. */
  readonly kexecRegions: 'virtual' | 'virtual-and-identity'
}

/** The first of the releases that a strategy stands for, and by release what later ones of them have changed. */
export interface Releases<Version> {
  readonly first: Version
  readonly later?: Readonly<Record<string, Partial<Version>>>
}

/** The releases of Linux that one strategy stands for. */
export type LinuxVersions = Releases<LinuxVersion>

/** What the last of such releases does. */
export function lastOf<Version>(releases: Releases<Version>): Version {
  return withChanges(releases, () => true)
}

/** What a kernel does by its own version. */
export function versionOf<Version>(kernel: Kernel, releases: Releases<Version>): Version {
  return withChanges(releases, (release) => isLinux(kernel, release))
}

function withChanges<Version>(
  { first, later = {} }: Releases<Version>,
  isIn: (release: string) => boolean,
): Version {
  const changes = Object.entries(later)
    .toSorted(([one], [other]) => compareVersions(one, other))
    .filter(([release]) => isIn(release))
    .map(([, each]) => each)
  return Object.assign({}, first, ...changes) as Version
}
