import { type AddressSpaceLayout, LAYOUT_I386, LAYOUT_I386_PAE } from '@trapdoor/kernel'

/** The option that all strategies of i386 have: how its page tables are made. */
export const PAGING = {
  title: 'pae: three levels, entries of 64 bits with NX; 32-bit: two levels, 4 MiB pages, no NX',
  values: ['pae', '32-bit'],
  default: 'pae',
} as const

/** The address space that {@link PAGING} selects. */
export function i386Layout({ paging }: Readonly<Record<string, string>>): AddressSpaceLayout {
  return paging === '32-bit' ? LAYOUT_I386 : LAYOUT_I386_PAE
}
