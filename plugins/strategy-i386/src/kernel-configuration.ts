import {
  type AddressSpaceLayout,
  LAYOUT_I386,
  LAYOUT_I386_PAE,
  splitAt,
  type UserGibibytes,
} from '@trapdoor/kernel'

const LAYOUTS: Readonly<Record<string, AddressSpaceLayout>> = {
  pae: LAYOUT_I386_PAE,
  '32-bit': LAYOUT_I386,
}
const USER_GIBIBYTES: Readonly<Record<string, UserGibibytes>> = { '3g': 3, '2g': 2, '1g': 1 }

/** The options that all strategies of i386 have: how their kernel is configured. */
export const KERNEL_CONFIGURATION = {
  paging: {
    title: 'pae: three levels, entries of 64 bits with NX; 32-bit: two levels, 4 MiB pages, no NX',
    values: ['pae', '32-bit'],
    default: 'pae',
  },
  split: {
    title:
      'what a process has of the 4 GiB (CONFIG_VMSPLIT); PAGE_OFFSET, where the kernel begins, is its end',
    values: ['3g', '2g', '1g'],
    default: '3g',
  },
} as const

/** The address space that {@link KERNEL_CONFIGURATION} selects. */
export function i386Layout({
  paging = 'pae',
  split = '3g',
}: Readonly<Record<string, string>>): AddressSpaceLayout {
  return splitAt(LAYOUTS[paging]!, USER_GIBIBYTES[split]!)
}
