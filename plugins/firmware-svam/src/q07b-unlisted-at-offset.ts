import type { Quirk } from '@trapdoor/firmware'
import { descriptorEnd, MemoryType } from '@trapdoor/uefi'

/** Registers of the second I/O APIC, which the map of this machine does not list. */
const REGISTERS = { address: 0xfec1_0000, pages: 1, name: 'second I/O APIC' } as const
const REGISTERS_END = REGISTERS.address + REGISTERS.pages * 4096
const OLD = 'Q07b pool'
const NEW = 'Q07b pool, converted'
const UNLISTED = 'Q07b registers'

/** A driver moves a pointer to memory that the map does not list by as much as its pool has moved, and looks at what is there. */
export const unlistedAtOffset: Quirk = {
  id: 'Q07b',
  name: 'unlisted-at-offset',
  title: 'SetVirtualAddressMap reads unlisted registers as far away as runtime data has moved',
  sources: ['esx-boot quirks.c, runtime_simple.c: EFI_RTS_UNKNOWN_MEM (Dell PowerEdge T320)'],
  hooks: {
    memoryMap: (descriptors) =>
      descriptors.filter(
        (each) => each.physicalStart >= REGISTERS_END || descriptorEnd(each) <= REGISTERS.address,
      ),
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: OLD })
      const unlisted = setup.allocateOutsideMap(REGISTERS)
      setup.pointer('VariableRuntimeDxe', OLD, data, { convert: false })
      setup.pointer('VariableRuntimeDxe', NEW, data)
      setup.pointer('VariableRuntimeDxe', UNLISTED, unlisted, { convert: false })
    },
    virtualAddressChange: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return
      const delta = call.pointer(NEW) - call.pointer(OLD)
      call.writeNatural(call.slot(UNLISTED), call.pointer(UNLISTED) + delta)
      call.read32(call.pointer(UNLISTED))
    },
  },
}
