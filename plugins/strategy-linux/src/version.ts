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
   * What happens to boot-services memory that is not this function's to free: left out of the map, or marked with EFI_MEMORY_RUNTIME (4.6 and later).
   */
  readonly sharedBootServices: 'forget' | 'mark'
  /** Whether the EFI tables keep boot-services memory mapped after it was freed. */
  readonly freedBootServices: 'mapped' | 'unmapped'
  /** Whether descriptors that cannot be right are left out (4.10 and later). */
  readonly cleanMemmap: boolean
  /** Which of the firmware's tables take rights away: the memory attributes table, and without one the properties table (4.11 and later); the former alone (6.14 and later). */
  readonly tighten: 'none' | 'attributes-or-properties' | 'attributes'
  /** Whether Apple's firmware is taken for EFI 1.10, whatever it says (f5390cd0b43c, Linux 5.17 and stable kernels). */
  readonly apple: 'as-it-says' | 'efi-1.10'
  /** The last version of the memory attributes table that is read: 1, and 2 since 636ab417a7ae (6.2, and the 6.1.y whose boots were watched). */
  readonly lastAttributesVersion: 1 | 2
  /** What follows when SetVirtualAddressMap fails: panic() up to 5.5, as "efi/x86: Don't panic or BUG() on non-critical error conditions" came with 5.6 (and with later 5.4.y). */
  readonly svamFailure: 'panic' | 'disable'
  /** What calls wait for: callers of variable services and of the clock have a lock each (up to 3.17), or all wait for one another ("efi: implement mandatory locking for UEFI Runtime Services"). */
  readonly lock: 'of-the-callers' | 'efi_runtime_lock'
  /**
   * How the system table is found again: among the regions that get virtual addresses, before SetVirtualAddressMap, else BUG_ON(!efi.systab) (up to 5.6); or read where it is, 1:1, after
   * the call (5.7 and later: efi_set_virtual_address_map() takes `runtime` out of it).
   */
  readonly systab: 'looked-up' | 'read-one-to-one'
  /** What kexec passes on: copies of what has the RUNTIME attribute and is no boot-services memory (save_runtime_map(), up to 4.8), or efi.memmap as it is then. */
  readonly runtimeMap: 'copied' | 'efi.memmap'
  /** RFLAGS.IF in SetVirtualAddressMap: as it was, on, where the prolog leaves at once without efi=old_map (3.14 to 4.0), else off. */
  readonly svamInterrupts: 'on' | 'off'
  /** RFLAGS.IF in calls: off under a spinlock that saves flags (to 4.8), on under a semaphore. */
  readonly interrupts: 'off' | 'on'
  /**
   * What of a process's floating-point state a call keeps: XMM0 to XMM5, as efi_call() does, or all, between kernel_fpu_begin() and kernel_fpu_end() (3.16 and later), which may also give firmware the FCW and MXCSR that it may count on (5.8 and
   * later; 7ad816762f9b, and efi_fpu_begin() since e45122893a98).
   */
  readonly fpu: 'volatile-xmm' | 'saved' | 'saved-and-initialised'
  /** What is done on the way back beside the write to CR3. */
  readonly leave: 'cr3' | 'cr3-and-flush'
  /** Whether a page fault in firmware stops only the call (4.20 and later). */
  readonly faultRecovery: 'none' | 'abort-call'
  /** Where indirect-branch tracking is off: nowhere, in calls (5.18 and later), in SetVirtualAddressMap too (6.5 and later). */
  readonly branchTrackingOff: 'never' | 'calls' | 'calls-and-svam'
  /** Whether tracking stays on in calls where the memory attributes table says that runtime code is marked for it (6.4 and later). */
  readonly branchTrackingByTable: boolean
  /** Whether CR4.LASS is cleared in calls (7.0 and later). */
  readonly lassOff: boolean
  /** Whether a kernel that was started by kexec deletes the DUMMY variable, too (up to 5.3; 2ecb7402cfc7). */
  readonly dummyAfterKexec: 'deleted' | 'left'
  /** Where the regions of the kernel before are mapped after kexec. */
  readonly kexecRegions: 'virtual' | 'virtual-and-identity'
}
