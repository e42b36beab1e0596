import type { Random } from './random.ts'
import type { TableLayout } from './table-layout.ts'
import type { PathStep, TableSet } from './table-set.ts'
import { PAGE_BYTES, type Table } from './table.ts'

/** The control registers and flags that a case varies. */
export interface Controls {
  /** CR0.WP. */
  readonly wp: boolean
  readonly smep: boolean
  readonly smap: boolean
  readonly pge: boolean
  readonly pke: boolean
  readonly pks: boolean
  /** EFER.NXE. */
  readonly nxe: boolean
  /** RFLAGS.AC. */
  readonly ac: boolean
  readonly pkru: number
  readonly pkrs: number
}

/** What a case does. */
export interface Access {
  readonly verb: 'read' | 'write' | 'execute'
  readonly user: boolean
  /** Whether it goes through RBP, which makes it an access to the stack segment. */
  readonly stack: boolean
}

/** One access, with all that decides what becomes of it but memory. */
export interface Case {
  readonly layout: TableLayout
  readonly root: Table
  /** The entries that the translation may read. */
  readonly path: readonly PathStep[]
  readonly controls: Controls
  readonly access: Access
  readonly address: bigint
  /** RAX, or EAX, before the access: what a write writes. */
  readonly value: bigint
}

/** Which protection keys a processor has. */
export interface KeyFeatures {
  readonly pku: boolean
  readonly pks: boolean
}

/** The guest's pages have the last key, which stays allowed. */
export const GUEST_KEY = 15

/** Code that was reached in error faults when it uses such an address. */
const NOT_CANONICAL = 0x7bad_0000_0000_0000n

/** A random access through the tables of a set. */
export function randomCase(random: Random, tables: TableSet, features: KeyFeatures): Case {
  const root = random.pick(tables.roots)
  const wanted = random.pick(['read', 'read', 'write', 'write', 'execute'] as const)
  let address: bigint
  let path: readonly PathStep[]
  do {
    address = randomAddress(random, tables, wanted === 'execute')
    path = tables.path(root, address)
  } while (tables.leadsToGuest(path))
  const verb = wanted !== 'execute' || tables.leadsToData(path, address) ? wanted : 'read'
  return {
    layout: tables.layout,
    root,
    path,
    controls: randomControls(random, features),
    access: { verb, user: random.percent(50), stack: verb !== 'execute' && random.percent(10) },
    address,
    value: tables.layout.longMode ? NOT_CANONICAL | random.bits(48) : random.bits(32),
  }
}

function randomControls(random: Random, features: KeyFeatures): Controls {
  return {
    wp: random.percent(60),
    smep: random.percent(50),
    smap: random.percent(50),
    pge: random.percent(50),
    pke: features.pku && random.percent(50),
    pks: features.pks && random.percent(50),
    nxe: random.percent(80),
    ac: random.percent(40),
    pkru: features.pku ? randomKeys(random) : 0,
    pkrs: features.pks ? randomKeys(random) : 0,
  }
}

/** Rights of 16 keys, each limited in one case of four. */
function randomKeys(random: Random): number {
  let keys = 0
  for (let key = 0; key < GUEST_KEY; key++) {
    if (random.percent(25)) keys |= (1 + random.below(3)) << (2 * key)
  }
  return keys
}

/** An address that filled entries lead to, mostly, and that is canonical, mostly. */
function randomAddress(random: Random, tables: TableSet, isCode: boolean): bigint {
  const { layout, indexes } = tables
  const { levels, linearBits } = layout
  let address = BigInt(isCode ? random.below(PAGE_BYTES / 8) * 8 : random.below(PAGE_BYTES - 7))
  for (const [at, { shift, indexBits }] of levels.entries()) {
    const isHole = at < levels.length - 1 && random.percent(1)
    const index = isHole ? random.below(2 ** indexBits) : random.pick(indexes[at]!)
    address |= BigInt(index) << BigInt(shift)
  }
  if (linearBits === 32) return address
  const canonical = BigInt.asUintN(64, BigInt.asIntN(linearBits, address))
  if (!random.percent(3)) return canonical
  // One wrong bit of those that must be equal, or all of them random.
  const wrong = 1n << BigInt(linearBits - 1 + random.below(65 - linearBits))
  const above = random.bits(64) & ~((1n << BigInt(linearBits)) - 1n)
  return random.percent(50) ? canonical ^ wrong : address | above
}
