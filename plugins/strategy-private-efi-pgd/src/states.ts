import { isRuntime, MemoryAttribute, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'

/** How one state of the patch maps a descriptor in `efi_pgd`; undefined where it leaves it out. */
export interface LeafRights {
  readonly executable: boolean
  readonly cacheDisable: boolean
}

/** One of the three states in which the patch is known. */
export interface PatchState {
  readonly rights: (descriptor: MemoryDescriptor) => LeafRights | undefined
  /** Whether the kernel's whole half is cloned, and again where memory is added, or only the direct map's and the kernel text's entry, once. */
  readonly wholeKernelHalf: boolean
  /** Whether efi_reserve_boot_services() has come, which virtual mode frees again and physical mode does not; early calls then make boot-services code executable, too. */
  readonly reservesBootServices: boolean
}

/**
 * `type & EFI_RUNTIME_SERVICES_CODE` and its like: a test of bits on an enumeration, so that nearly every type passes, and most as code.
 */
function byTypeBits(descriptor: MemoryDescriptor): LeafRights | undefined {
  const code = (descriptor.type & MemoryType.RuntimeServicesCode) !== 0
  const data = (descriptor.type & MemoryType.RuntimeServicesData) !== 0
  return code || data ? { executable: code, cacheDisable: false } : undefined
}

function byRuntimeAttribute(descriptor: MemoryDescriptor): LeafRights | undefined {
  if (!isRuntime(descriptor)) return undefined
  return {
    executable: descriptor.type === MemoryType.RuntimeServicesCode,
    cacheDisable: (descriptor.attribute & MemoryAttribute.WB) === 0n,
  }
}

/** A: RHEL 6 2.6.32-66, closest to the patch as it was sent. B: 6.0.z, "map whole memory". C: 6.3 and later. */
export const PATCH_STATES: Readonly<Record<string, PatchState>> = {
  A: { rights: byTypeBits, wholeKernelHalf: false, reservesBootServices: false },
  B: { rights: byTypeBits, wholeKernelHalf: true, reservesBootServices: false },
  C: { rights: byRuntimeAttribute, wholeKernelHalf: true, reservesBootServices: true },
}
