import { Entry } from '@trapdoor/core'
import type { FindingWalkStep } from '@trapdoor/harness'

const LARGE_PAGE: Readonly<Record<string, string>> = { PDPTE: '1 GiB', PDE: '2 MiB' }

/** Bits of the low half by the names of the SDM and the kernel, in their order. */
const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [Entry.Present, 'P'],
  [Entry.Writable, 'RW'],
  [Entry.User, 'US'],
  [Entry.WriteThrough, 'PWT'],
  [Entry.CacheDisable, 'PCD'],
  [Entry.Accessed, 'A'],
  [Entry.Dirty, 'D'],
  [Entry.Global, 'G'],
]

/** What the short names of the flags stand for, for a line below a walk. */
export const FLAG_LEGEND =
  'P present, RW writable, US user, A accessed, D dirty, PS large page, G global, NX no execution'

/** A page-table entry taken apart. */
export interface DecodedEntry {
  /** `P RW A D PS G NX`: the bits that are set. */
  readonly flags: string
  /** What the entry does: where it leads, or that it ends the walk. */
  readonly meaning: string
}

/**
 * Takes an entry apart (SDM Vol. 3, tables 4-15 to 4-20). `reserved` where the processor refused it for its reserved bits.
 */
export function decodeEntry(
  { entry, value }: FindingWalkStep,
  { reserved = false }: { readonly reserved?: boolean } = {},
): DecodedEntry {
  const bits = BigInt(value)
  const low = Number(BigInt.asIntN(32, bits))
  const noExecute = bits >> 63n === 1n
  const pageSize = LARGE_PAGE[entry]
  const isLarge = pageSize !== undefined && (low & Entry.PageSize) !== 0
  const isLeaf = isLarge || entry === 'PTE'
  const flags = FLAG_NAMES.filter(([bit]) => (low & bit) !== 0).map(([, name]) => name)
  if ((low & Entry.PageSize) !== 0) flags.push(entry === 'PTE' ? 'PAT' : 'PS')
  if (noExecute) flags.push('NX')
  if ((low & Entry.Present) === 0) {
    const rest = bits === 0n ? 'empty' : 'not present'
    return { flags: flags.join(' ') || '-', meaning: `${rest} (P=0): the walk ends here` }
  }
  if (reserved) {
    return {
      flags: flags.join(' '),
      meaning: `0x${(bits & 0xf_ffff_ffff_f000n).toString(16)} is more than a physical address of this CPU (reserved bits are set): the walk ends here`,
    }
  }
  const page = isLarge ? pageSize : '4 KiB'
  const align = entry === 'PDPTE' ? 0x3fff_ffffn : entry === 'PDE' ? 0x1f_ffffn : 0xfffn
  const base = bits & 0xf_ffff_ffff_f000n & (isLarge ? ~align : ~0xfffn)
  const target = `0x${base.toString(16)}`
  if (isLeaf) {
    const rights = [
      (low & Entry.Writable) === 0 ? 'read-only' : 'writable',
      (low & Entry.User) === 0 ? 'supervisor' : 'user',
      noExecute ? 'no execution' : 'executable',
      ...((low & Entry.Global) === 0 ? [] : ['global']),
    ]
    return { flags: flags.join(' '), meaning: `${page} page at ${target}: ${rights.join(', ')}` }
  }
  const limits = [
    ...((low & Entry.Writable) === 0 ? ['read-only below'] : []),
    ...(noExecute ? ['no execution below'] : []),
  ]
  const note = limits.length === 0 ? '' : ` (${limits.join(', ')})`
  return { flags: flags.join(' '), meaning: `next table at ${target}${note}` }
}
