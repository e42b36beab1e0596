import type { Quirk } from '@trapdoor/firmware'
import { isRuntime } from '@trapdoor/uefi'

/** The conversion code asserts that the new address is another one. */
export const svamIdentityCrash: Quirk = {
  id: 'Q05',
  name: 'svam-identity-crash',
  title: 'SetVirtualAddressMap hangs when a virtual address equals the physical one',
  sources: ['FreeBSD loader efi_disable_vmap (ThinkPad X220)', 'Ard Biesheuvel, 12 Nov 2025'],
  hooks: {
    setVirtualAddressMap: (call, map) => {
      const flat = map
        .read()
        .find((each) => isRuntime(each) && each.virtualStart === BigInt(each.physicalStart))
      if (flat === undefined) return undefined
      return call.deadLoop(
        `ASSERT (VirtualStart != PhysicalStart) 0x${flat.virtualStart.toString(16)}`,
      )
    },
  },
}
