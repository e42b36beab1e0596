import type { Quirk } from '@trapdoor/firmware'
import { allocateLate } from './late-allocation.ts'

/** A driver takes memory each time that it hears of ExitBootServices, so that no key is ever right. */
export const mapNeverSettles: Quirk = {
  id: 'Q28b',
  name: 'map-never-settles',
  title: 'Every ExitBootServices changes the memory map before it looks at the key',
  sources: [
    'Samsung Galaxy Book2 W737, Lenovo T14s Gen 6 (Qualcomm): EFI_INVALID_PARAMETER each time',
    'OpenCore ExitBootServicesDelay (ASUS Z87-Pro)',
  ],
  hooks: { beforeExitBootServices: allocateLate },
}
