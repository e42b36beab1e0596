import type { Quirk } from '@trapdoor/firmware'
import { descriptorEnd } from '@trapdoor/uefi'

/** The chipset's root complex registers, which hold the SPI flash controller's. */
const RCBA = { address: 0xfed1_c000, pages: 4, name: 'RCBA' } as const
const RCBA_END = RCBA.address + RCBA.pages * 4096
/** Hardware sequencing flash status, and its write-one-to-clear "done" bit. */
const FLASH_STATUS = 0x3804n
const CYCLE_DONE = 1
const SLOT = 'Q22 RCBA'

/** SetVariable drives the flash controller, whose registers no descriptor covers. */
export const mmioMissing: Quirk = {
  id: 'Q22',
  name: 'mmio-missing',
  title: 'SetVariable touches device registers at 0xfed1c000 that the map does not list',
  sources: ['OpenCore ProtectMemoryRegions (Haswell APTIO)', 'esx-boot UNKNOWN_MEM'],
  hooks: {
    memoryMap: (descriptors) =>
      descriptors.filter(
        (each) => each.physicalStart >= RCBA_END || descriptorEnd(each) <= RCBA.address,
      ),
    powerOn: (setup) => {
      setup.pointer('VariableRuntimeDxe', SLOT, setup.allocateOutsideMap(RCBA))
    },
    beforeService: (call) => {
      if (call.service !== 'SetVariable') return undefined
      const status = call.pointer(SLOT) + FLASH_STATUS
      call.write16(status, call.read16(status) | CYCLE_DONE)
      return undefined
    },
  },
}
