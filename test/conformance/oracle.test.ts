// The oracle against cases worked out by hand from the manuals' text.
import { describe, expect, test } from 'vitest'

import { AccessBit } from './oracle/access-rights.ts'
import { afterWrite, type ControlRegisters, modeOf } from './oracle/control-registers.ts'
import { type CachedItem, fateOf, type Invalidation } from './oracle/invalidation.ts'
import { linearAddressFault } from './oracle/linear-address.ts'
import { PLAIN_STATE, type RegisterState, translationState } from './oracle/register-state.ts'
import { NO_FAULT, Path, TranslationOracle } from './oracle/translation.ts'

const READ = 0
const { Write: WRITE, Fetch: FETCH, User: USER, Implicit: IMPLICIT } = AccessBit

/** Entries from the root down, and what the access to an address through them comes to. */
function outcome(
  registers: Partial<RegisterState>,
  entries: readonly bigint[],
  access: number,
  linear = 0n,
): { code: number; frame: number; entries: bigint[] } {
  const oracle = new TranslationOracle(translationState({ ...PLAIN_STATE, ...registers }))
  const path = new Path()
  for (const [depth, entry] of entries.entries())
    path.set(depth, Number(BigInt.asIntN(32, entry)), Number(BigInt.asIntN(32, entry >> 32n)))
  const code = oracle.predict(path, Number(BigInt.asIntN(32, linear)), access)
  const { frame } = oracle
  oracle.mark(path)
  const after = entries.map(
    (_, depth) => (BigInt(path.high[depth]! >>> 0) << 32n) | BigInt(path.low[depth]! >>> 0),
  )
  return { code, frame: code === NO_FAULT ? frame : -1, entries: after }
}

function codeOf(
  registers: Partial<RegisterState>,
  entries: readonly bigint[],
  access: number,
): number {
  return outcome(registers, entries, access).code
}

const TABLE = 0x2007n
const PAGE = 0x5007n
const XD = 1n << 63n
const KEY_1 = 1n << 59n

/** Entries that withhold nothing, down to a PTE with the given flags. */
function page(flags: bigint): bigint[] {
  return [TABLE, TABLE, TABLE, 0x5000n | flags]
}

function invpcid(type: 0 | 1 | 2 | 3, pcid: number): Invalidation {
  return { kind: 'INVPCID', type, pcid, address: 0x20_0000n }
}

describe('reserved bits', () => {
  test('a PTE has address bits up to MAXPHYADDR - 1 and reserved ones from there to 51 (table 4-20)', () => {
    expect(outcome({ physicalAddressBits: 40 }, page(7n | (1n << 39n)), READ).frame).toBe(
      2 ** 27 + 5,
    )
    expect(codeOf({ physicalAddressBits: 40 }, page(7n | (1n << 40n)), READ)).toBe(0b1001)
    expect(codeOf({ physicalAddressBits: 40 }, page(7n | (1n << 51n)), READ)).toBe(0b1001)
    expect(outcome({ physicalAddressBits: 40 }, page(7n | (1n << 52n)), READ).frame).toBe(5)
    expect(outcome({ physicalAddressBits: 52 }, page(7n | (1n << 51n)), READ).frame).toBe(
      2 ** 39 + 5,
    )
  })

  test('bits 20 to 13 of a 2 MiB page are reserved and bit 12 is PAT (table 4-18)', () => {
    expect(codeOf({}, [TABLE, TABLE, 0x20_2087n], READ)).toBe(0b1001)
    expect(codeOf({}, [TABLE, TABLE, 0x30_0087n], READ)).toBe(0b1001)
    expect(outcome({}, [TABLE, TABLE, 0x20_1087n], READ, 0x3000n).frame).toBe(0x203)
  })

  test('bit 7 of a PDPTE is a 1 GiB page where the processor has them, else reserved (tables 4-16, 4-17)', () => {
    const linear = 0x2000_0000n + 0x7000n
    const entries = [TABLE, 0x8000_0087n]
    expect(outcome({ pages1G: true }, entries, READ, linear).frame).toBe(0xa_0007)
    expect(codeOf({ pages1G: false }, entries, READ)).toBe(0b1001)
    expect(codeOf({}, [TABLE, 0x8000_2087n], READ)).toBe(0b1001)
  })

  test('bit 7 of a PML4E and of a PML5E is reserved; bit 8 on AMD only (table 4-15; APM 5.3.3)', () => {
    expect(codeOf({}, [0x2087n, TABLE, TABLE, PAGE], READ)).toBe(0b1001)
    expect(codeOf({ structure: '5-level' }, [0x2087n, TABLE, TABLE, TABLE, PAGE], READ)).toBe(
      0b1001,
    )
    expect(codeOf({}, [0x2107n, TABLE, TABLE, PAGE], READ)).toBe(NO_FAULT)
    expect(codeOf({ amdGlobalBit: true }, [0x2107n, TABLE, TABLE, PAGE], READ)).toBe(0b1001)
  })

  test('bit 63 is reserved with NXE clear, and bits 62 to M in PAE paging (tables 4-9 to 4-11)', () => {
    expect(codeOf({ nxe: false }, [TABLE, TABLE, TABLE, PAGE | XD], READ)).toBe(0b1001)
    const pae = { structure: 'PAE', physicalAddressBits: 36 } as const
    expect(codeOf(pae, [0x2001n, TABLE, PAGE | (1n << 36n)], READ)).toBe(0b1001)
    expect(codeOf(pae, [0x2001n, TABLE, PAGE | (1n << 62n)], READ)).toBe(0b1001)
    expect(codeOf(pae, [0x2001n, TABLE, PAGE | XD], READ)).toBe(NO_FAULT)
  })

  test('a 4 MiB page has its address bits above 31 in bits 13 and up, 40 bits at most (table 4-4)', () => {
    const mode = { structure: '32-bit', pse: true, nxe: false } as const
    const bits = (pde: bigint, physicalAddressBits: number, pse36 = true): number =>
      outcome({ ...mode, physicalAddressBits, pse36 }, [pde], READ, 0x2000n).frame
    // M = 36: bits 16 to 13 are address bits 35 to 32.
    expect(bits(0x0041_0087n, 36)).toBe(2 ** 23 + 0x402)
    expect(bits(0x0042_0087n, 36)).toBe(-1)
    // M = 40: bits 20 to 13; bit 21 never.
    expect(bits(0x0050_0087n, 52)).toBe(2 ** 27 + 0x402)
    expect(bits(0x0060_0087n, 52)).toBe(-1)
    expect(bits(0x0040_2087n, 52, false)).toBe(-1)
  })

  test('an entry that is not present is not looked at any further (4.7)', () => {
    expect(codeOf({}, [TABLE, TABLE, TABLE, (1n << 51n) | 6n], READ)).toBe(0)
    expect(codeOf({}, [TABLE, 0n, (1n << 51n) | 7n], WRITE | USER)).toBe(0b110)
    expect(codeOf({}, [TABLE, 0x2007n | (1n << 51n), 0n], READ)).toBe(0b1001)
  })
})

describe('access rights', () => {
  test('a supervisor writes a read-only page only with CR0.WP clear, a user never', () => {
    expect(codeOf({ wp: true }, page(5n), WRITE)).toBe(0b11)
    expect(codeOf({ wp: false }, page(5n), WRITE)).toBe(NO_FAULT)
    expect(codeOf({ wp: false }, page(5n), WRITE | USER)).toBe(0b111)
  })

  test('a right that one entry withholds is withheld', () => {
    expect(codeOf({}, [0x2003n, TABLE, TABLE, PAGE], USER)).toBe(0b101)
    expect(codeOf({}, [TABLE, 0x2005n, TABLE, PAGE], WRITE)).toBe(0b11)
    expect(codeOf({}, [TABLE, TABLE | XD, TABLE, PAGE], FETCH)).toBe(0b1_0001)
    // The PDPTE of PAE paging has none.
    expect(codeOf({ structure: 'PAE' }, [0x2001n, TABLE, PAGE], WRITE | USER)).toBe(NO_FAULT)
  })

  test('SMEP keeps a supervisor from fetching from user pages, and makes I/D count (4.7)', () => {
    expect(codeOf({ smep: true, nxe: false }, page(7n), FETCH)).toBe(0b1_0001)
    expect(codeOf({ smep: true }, page(3n), FETCH)).toBe(NO_FAULT)
    expect(codeOf({ smep: true }, page(7n), FETCH | USER)).toBe(NO_FAULT)
    expect(codeOf({ nxe: false }, page(6n), FETCH)).toBe(0)
    expect(codeOf({ nxe: true }, page(6n), FETCH)).toBe(0b1_0000)
    expect(codeOf({ structure: '32-bit', nxe: true }, [0n], FETCH)).toBe(0)
  })

  test('SMAP yields to AC for explicit accesses only', () => {
    expect(codeOf({ smap: true }, page(7n), READ)).toBe(1)
    expect(codeOf({ smap: true, ac: true }, page(7n), READ)).toBe(NO_FAULT)
    expect(codeOf({ smap: true, ac: true }, page(7n), IMPLICIT)).toBe(1)
    expect(codeOf({ smap: true, ac: true }, page(7n), IMPLICIT | WRITE)).toBe(0b11)
    expect(codeOf({ smap: true }, page(3n), IMPLICIT)).toBe(NO_FAULT)
    expect(codeOf({ smap: true }, page(7n), FETCH)).toBe(NO_FAULT)
  })

  test('PKRU denies data accesses to user pages, writes of a supervisor with CR0.WP set (4.6.2)', () => {
    const user = page(7n | KEY_1)
    expect(codeOf({ pkru: 0b0100 }, user, READ)).toBe(0b10_0001)
    expect(codeOf({ pkru: 0b0100 }, user, FETCH | USER)).toBe(NO_FAULT)
    expect(codeOf({ pkru: 0b1000 }, user, WRITE)).toBe(0b10_0011)
    expect(codeOf({ pkru: 0b1000, wp: false }, user, WRITE)).toBe(NO_FAULT)
    expect(codeOf({ pkru: 0b1000, wp: false }, user, WRITE | USER)).toBe(0b10_0111)
    expect(codeOf({ pkru: 0b0100 }, page(3n | KEY_1), READ)).toBe(NO_FAULT)
    expect(codeOf({ pkru: 0b0011 }, user, WRITE)).toBe(NO_FAULT)
  })

  test('IA32_PKRS denies data accesses to supervisor pages, writes with CR0.WP set (4.6.2)', () => {
    const supervisor = page(3n | KEY_1)
    expect(codeOf({ pkrs: 0b0100 }, supervisor, READ)).toBe(0b10_0001)
    expect(codeOf({ pkrs: 0b1000 }, supervisor, WRITE)).toBe(0b10_0011)
    expect(codeOf({ pkrs: 0b1000, wp: false }, supervisor, WRITE)).toBe(NO_FAULT)
    // A user is refused by U/S; with CR0.WP clear the key has no part in it.
    expect(codeOf({ pkrs: 0b1000, wp: false }, supervisor, WRITE | USER)).toBe(0b111)
    expect(codeOf({ pkrs: 0b0100 }, page(7n | KEY_1), READ)).toBe(NO_FAULT)
  })

  test('PK is reported beside what else refuses the access', () => {
    expect(codeOf({ pkru: 0b0100 }, page(5n | KEY_1), WRITE | USER)).toBe(0b10_0111)
    expect(codeOf({ pkru: 0b0100, smap: true }, page(7n | KEY_1), READ)).toBe(0b10_0001)
  })

  test('protection keys do not exist outside 4-level and 5-level paging', () => {
    expect(codeOf({ structure: '32-bit', pkru: 0xffff_ffff }, [TABLE, PAGE], READ)).toBe(NO_FAULT)
    expect(codeOf({ structure: 'PAE', pkru: 0xffff_ffff }, [0x2001n, TABLE, PAGE], READ)).toBe(
      NO_FAULT,
    )
  })
})

describe('accessed and dirty flags (4.8)', () => {
  test('an access that succeeds sets accessed in every entry, a write dirty in the last', () => {
    const entries = [TABLE, TABLE, TABLE, PAGE]
    expect(outcome({}, entries, READ).entries).toEqual([0x2027n, 0x2027n, 0x2027n, 0x5027n])
    expect(outcome({}, entries, WRITE).entries).toEqual([0x2027n, 0x2027n, 0x2027n, 0x5067n])
  })

  test('a fault sets dirty nowhere, and accessed above it by policy', () => {
    const entries = [TABLE, TABLE, TABLE, 0x5005n]
    expect(outcome({ accessedFlags: 'lazy' }, entries, WRITE).entries).toEqual(entries)
    expect(outcome({ accessedFlags: 'eager' }, entries, WRITE).entries).toEqual([
      0x2027n,
      0x2027n,
      0x2027n,
      0x5005n,
    ])
    const absent = [TABLE, TABLE, 0x2006n, PAGE]
    expect(outcome({ accessedFlags: 'eager' }, absent, READ).entries).toEqual([
      0x2027n,
      0x2027n,
      0x2006n,
      PAGE,
    ])
  })

  test('the PDPTE of PAE paging has no accessed flag', () => {
    expect(outcome({ structure: 'PAE' }, [0x2001n, TABLE, PAGE], READ).entries).toEqual([
      0x2001n,
      0x2027n,
      0x5027n,
    ])
  })
})

describe('linear addresses', () => {
  const state = {
    ia32e: true,
    linearBits: 48,
    lass: false,
    smap: false,
    alignmentCheck: false,
  } as const
  const lass = { ...state, lass: true, smap: true } as const

  test('bits 63 to 47 are equal with 4 levels, bits 63 to 56 with 5', () => {
    expect(linearAddressFault(state, 0x7fff_ffff_ffffn, READ, false)).toBeUndefined()
    expect(linearAddressFault(state, 0x8000_0000_0000n, READ, false)).toBe('#GP')
    expect(linearAddressFault(state, 0xffff_8000_0000_0000n, READ, false)).toBeUndefined()
    expect(linearAddressFault(state, 0xffff_7fff_ffff_ffffn, READ, true)).toBe('#SS')
    const five = { ...state, linearBits: 57 } as const
    expect(linearAddressFault(five, 0x00ff_ffff_ffff_ffffn, READ, false)).toBeUndefined()
    expect(linearAddressFault(five, 0x0100_0000_0000_0000n, READ, false)).toBe('#GP')
  })

  test('LASS keeps users out of the upper half and supervisors out of the lower', () => {
    const upper = 0xffff_8000_0000_0000n
    expect(linearAddressFault(lass, upper, READ | USER, false)).toBe('#GP')
    expect(linearAddressFault(lass, upper, WRITE | USER, true)).toBe('#SS')
    expect(linearAddressFault(lass, upper, READ, false)).toBeUndefined()
    expect(linearAddressFault(lass, 0x1000n, READ, false)).toBe('#GP')
    expect(linearAddressFault(lass, 0x1000n, FETCH, false)).toBe('#GP')
    expect(linearAddressFault(lass, 0x1000n, FETCH | USER, false)).toBeUndefined()
    expect(linearAddressFault({ ...lass, ia32e: false }, 0x1000n, READ, false)).toBeUndefined()
  })

  test('a supervisor reads the lower half without SMAP, or with AC unless the access is implicit', () => {
    const noSmap = { ...lass, smap: false }
    const ac = { ...lass, alignmentCheck: true }
    expect(linearAddressFault(noSmap, 0x1000n, READ, false)).toBeUndefined()
    expect(linearAddressFault(noSmap, 0x1000n, FETCH, false)).toBe('#GP')
    expect(linearAddressFault(ac, 0x1000n, READ, false)).toBeUndefined()
    expect(linearAddressFault(ac, 0x1000n, IMPLICIT, false)).toBe('#GP')
  })
})

describe('control registers', () => {
  const model = {
    physicalAddressBits: 46,
    cr4Bits: 0x2_10a0n,
    eferBits: 0x901n,
    pdptesLoadable: () => true,
  }
  const reset: ControlRegisters = { cr0: 0x10n, cr3: 0n, cr4: 0n, efer: 0n, csL: false }
  const protectedMode = { ...reset, cr0: 0x11n }

  test('long mode is entered by PAE, LME, PG in this order, and from 32-bit code (9.8.5)', () => {
    const ready = { ...protectedMode, cr4: 0x20n, efer: 0x100n }
    const entered = afterWrite(model, ready, { register: 'CR0', value: 0x8000_0011n })
    expect(entered).toEqual({ ...ready, cr0: 0x8000_0011n, efer: 0x500n })
    expect(entered && modeOf(entered)).toBe('4-level')
    const on = { register: 'CR0', value: 0x8000_0011n } as const
    expect(afterWrite(model, { ...ready, cr4: 0n }, on)).toBeUndefined()
    expect(afterWrite(model, { ...ready, csL: true }, on)).toBeUndefined()
    expect(
      afterWrite(model, { ...ready, cr0: 0x10n }, { ...on, value: 0x8000_0010n }),
    ).toBeUndefined()
  })

  test('what the mode rests on cannot be taken away from under it', () => {
    const long = { cr0: 0x8000_0011n, cr3: 0n, cr4: 0x20n, efer: 0x500n, csL: true }
    expect(afterWrite(model, long, { register: 'CR4', value: 0n })).toBeUndefined()
    expect(afterWrite(model, long, { register: 'CR4', value: 0x1020n })).toBeUndefined()
    expect(afterWrite(model, long, { register: 'EFER', value: 0n })).toBeUndefined()
    expect(afterWrite(model, long, { register: 'CR0', value: 0x11n })).toBeUndefined()
    const compatibility = { ...long, csL: false }
    expect(afterWrite(model, compatibility, { register: 'CR0', value: 0x11n })?.efer).toBe(0x100n)
    const pcide = { ...compatibility, cr4: 0x2_0020n }
    expect(afterWrite(model, pcide, { register: 'CR0', value: 0x11n })).toBeUndefined()
  })

  test('PCIDs are turned on in IA-32e mode, with zeros in the low bits of CR3; bit 63 needs them', () => {
    const long = { cr0: 0x8000_0011n, cr3: 0x1000n, cr4: 0x20n, efer: 0x500n, csL: true }
    const write = { register: 'CR4', value: 0x2_0020n } as const
    expect(afterWrite(model, long, write)?.cr4).toBe(0x2_0020n)
    expect(afterWrite(model, { ...long, cr3: 0x1001n }, write)).toBeUndefined()
    expect(afterWrite(model, protectedMode, write)).toBeUndefined()
    const keep = { register: 'CR3', value: (1n << 63n) | 0x2003n } as const
    expect(afterWrite(model, long, keep)).toBeUndefined()
    expect(afterWrite(model, { ...long, cr4: 0x2_0020n }, keep)?.cr3).toBe(0x2003n)
    expect(afterWrite(model, long, { register: 'CR3', value: 1n << 46n })).toBeUndefined()
  })

  test('PDPTEs with reserved bits refuse what would load them', () => {
    const refusing = { ...model, pdptesLoadable: () => false }
    const pae = { ...protectedMode, cr0: 0x8000_0011n, cr4: 0x20n }
    expect(afterWrite(refusing, pae, { register: 'CR3', value: 0x1000n })).toBeUndefined()
    expect(afterWrite(refusing, pae, { register: 'CR4', value: 0xa0n })).toBeUndefined()
    expect(afterWrite(refusing, pae, { register: 'CR0', value: 0xc000_0011n })).toBeUndefined()
    expect(afterWrite(refusing, pae, { register: 'CR0', value: 0x8001_0011n })?.cr0).toBe(
      0x8001_0011n,
    )
  })
})

describe('invalidation (4.10.4.1)', () => {
  const cached: CachedItem = {
    in: 'TLB',
    pcid: 1,
    global: false,
    start: 0x20_0000n,
    bytes: 0x20_0000n,
  }
  const fate = (operation: Invalidation, item: Partial<CachedItem> = {}): string =>
    fateOf(operation, 1, { ...cached, ...item })

  test('INVLPG takes the page in the current context and a global one in any', () => {
    const invlpg = { kind: 'INVLPG', address: 0x3f_f000n } as const
    expect(fate(invlpg)).toBe('gone')
    expect(fate(invlpg, { pcid: 2 })).toBe('may stay')
    expect(fate(invlpg, { pcid: 2, global: true })).toBe('gone')
    expect(fate({ ...invlpg, address: 0x40_0000n })).toBe('may stay')
    expect(fate({ ...invlpg, address: 0n }, { in: 'paging-structure cache' })).toBe('gone')
  })

  test('INVPCID leaves global pages but for type 2', () => {
    expect(fate(invpcid(0, 1))).toBe('gone')
    expect(fate(invpcid(0, 2))).toBe('may stay')
    expect(fate(invpcid(1, 2), { pcid: 2 })).toBe('gone')
    for (const type of [0, 1, 3] as const)
      expect(fate(invpcid(type, 1), { global: true })).toBe('may stay')
    expect(fate(invpcid(2, 0), { global: true })).toBe('gone')
    expect(fate(invpcid(3, 0), { pcid: 7 })).toBe('gone')
  })

  test('MOV to CR3 takes the context that it loads, unless bit 63 is set', () => {
    expect(fate({ kind: 'MOV CR3', pcid: 1, keep: false })).toBe('gone')
    expect(fate({ kind: 'MOV CR3', pcid: 2, keep: false })).toBe('may stay')
    expect(fate({ kind: 'MOV CR3', pcid: 1, keep: true })).toBe('may stay')
    expect(fate({ kind: 'MOV CR3', pcid: 1, keep: false }, { global: true })).toBe('may stay')
  })

  test('setting SMEP takes the current context; of global pages of others nothing is said', () => {
    expect(fate({ kind: 'context' })).toBe('gone')
    expect(fate({ kind: 'context' }, { pcid: 2 })).toBe('may stay')
    expect(fate({ kind: 'context' }, { pcid: 2, global: true })).toBe('open')
    expect(fate({ kind: 'everything' }, { pcid: 2, global: true })).toBe('gone')
  })
})
