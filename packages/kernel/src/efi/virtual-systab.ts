import { descriptorEnd, isRuntime, type MemoryDescriptor } from '@trapdoor/uefi'
import { StrategyRefusal } from './strategy.ts'

/**
 * get_systab_virt_addr() (arch/x86/platform/efi/efi.c): where the system table at the physical address `systab` is mapped by a map that SetVirtualAddressMap gets. Undefined where no region of
 * `map` holds it. Who maps regions that have no RUNTIME attribute either leaves them in `map`.
 */
export function virtualSystab(
  map: readonly MemoryDescriptor[],
  systab: number,
): bigint | undefined {
  const region = map.find((each) => each.physicalStart <= systab && systab < descriptorEnd(each))
  return region === undefined
    ? undefined
    : region.virtualStart + BigInt(systab - region.physicalStart)
}

/** {@link virtualSystab} among regions with the RUNTIME attribute. Throws StrategyRefusal where none holds the system table. */
export function runtimeSystab(map: readonly MemoryDescriptor[], systab: number): bigint {
  const address = virtualSystab(map.filter(isRuntime), systab)
  if (address === undefined) {
    throw new StrategyRefusal('no runtime region holds the EFI system table')
  }
  return address
}
