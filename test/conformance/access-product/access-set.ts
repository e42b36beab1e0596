import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import type { Manuals } from '../runner/manuals.ts'
import { AccessBit } from '../oracle/access-rights.ts'
import { PLAIN_STATE, type RegisterState } from '../oracle/register-state.ts'
import { Path } from '../oracle/translation.ts'
import { highTables, LOW_TABLES } from '../trial/paging-structures.ts'
import type { Recorder } from '../runner/recorder.ts'
import { Trial } from '../trial/trial.ts'
import { fillEntries } from './entries.ts'
import { ENTRY_FLAGS, Flag, legalSubsets, productFlags } from './flags.ts'

/** One product: a processor in one of the two paging modes. */
export interface AccessProduct {
  readonly physicalAddressBits: number
  readonly protectionKeys: boolean
  readonly structure: '4-level' | '5-level'
  readonly accessedFlags: 'lazy' | 'eager'
  /** CR4.SMEP, which access.c leaves out. */
  readonly smep: boolean
}

const CONTROL_FLAGS =
  Flag.EferNxe | Flag.Cr0Wp | Flag.Cr4Pke | Flag.KeyAccessDisable | Flag.KeyWriteDisable
const ACCESS_FLAGS = Flag.User | Flag.Write | Flag.Fetch | Flag.Twice

/** The linear address of access.c. */
const LINEAR_HIGH = 0xffff_9234 | 0

/** The register settings of a product; each is a chunk. */
export function controlSettings(product: AccessProduct): number[] {
  const mask = CONTROL_FLAGS & productFlags(product.physicalAddressBits, product.protectionKeys)
  return legalSubsets(mask, 0)
}

function registerState(product: AccessProduct, controls: number): RegisterState {
  // Of other keys than key 1, access.c denies key 2, which only entries that point to tables name.
  const rights =
    0x30 |
    ((controls & Flag.KeyWriteDisable) === 0 ? 0 : 8) |
    ((controls & Flag.KeyAccessDisable) === 0 ? 0 : 4)
  return {
    ...PLAIN_STATE,
    structure: product.structure,
    physicalAddressBits: product.physicalAddressBits,
    accessedFlags: product.accessedFlags,
    wp: (controls & Flag.Cr0Wp) !== 0,
    nxe: (controls & Flag.EferNxe) !== 0,
    smep: product.smep,
    pkru: (controls & Flag.Cr4Pke) === 0 ? undefined : rights,
  }
}

function accessBits(flags: number): number {
  return (
    ((flags & Flag.User) === 0 ? 0 : AccessBit.User) |
    ((flags & Flag.Write) === 0 ? 0 : AccessBit.Write) |
    ((flags & Flag.Fetch) === 0 ? 0 : AccessBit.Fetch)
  )
}

/** The accesses and the entries, keys among them, that are legal in a setting. */
function dimensions(
  product: AccessProduct,
  controls: number,
): { readonly accesses: readonly number[]; readonly entries: readonly number[] } {
  const flags = productFlags(product.physicalAddressBits, product.protectionKeys)
  const mask = flags & (ENTRY_FLAGS | Flag.PdpteReadOnly | Flag.KeyOne)
  return { accesses: legalSubsets(ACCESS_FLAGS, controls), entries: legalSubsets(mask, controls) }
}

/** How many combinations a product has. */
export function accessCombinations(product: AccessProduct): number {
  return controlSettings(product)
    .map((controls) => dimensions(product, controls))
    .reduce((sum, { accesses, entries }) => sum + accesses.length * entries.length, 0)
}

/** Runs the combinations of a product that share one setting of the control registers, of the entries each `stride`-th. */
export function runAccessProduct(
  product: AccessProduct,
  setting: number,
  stride: number,
  recorder: Recorder,
  manuals: Manuals,
): void {
  const controls = controlSettings(product)[setting]!
  const flat = product.accessedFlags === 'lazy'
  const trial = new Trial(registerState(product, controls), manuals, recorder, {
    features: { pku: product.protectionKeys },
    tables: flat ? LOW_TABLES : highTables(product.physicalAddressBits),
    ...(flat ? { flatWindow: 32 << 20 } : {}),
  })
  trial.select(LINEAR_HIGH, 0)
  const { accesses, entries } = dimensions(product, controls)
  const path = new Path()
  for (let index = 0; index < entries.length; index += stride) {
    const entry = entries[index]!
    for (const access of accesses) {
      fillEntries(path, trial.structures, entry)
      trial.check(path, accessBits(access), (access & Flag.Twice) !== 0)
    }
  }
}

/** The combinations of entries that the small size leaves out of products with protection keys: all but each so many-th. */
const SMALL_STRIDE = 17

/** How many combinations kvm-unit-tests reports for a product without protection keys, by MAXPHYADDR; with them it is ten times as many. */
export function publishedCombinations(product: AccessProduct): number {
  const withoutKeys =
    product.physicalAddressBits >= 52
      ? 933_888
      : product.physicalAddressBits >= 37
        ? 1_916_928
        : 2_899_968
  return withoutKeys * (product.protectionKeys ? 10 : 1)
}

/** What a product is called, such as "access/5-level/36/keys/eager". */
function nameOf(product: AccessProduct): string {
  return [
    product.smep ? 'access-smep' : 'access',
    product.structure,
    product.physicalAddressBits,
    ...(product.protectionKeys ? ['keys'] : []),
    product.accessedFlags,
  ].join('/')
}

function productSet(product: AccessProduct): ConformanceSet {
  // The two modes and the two policies are paired up in the small size.
  const inSmall = (product.structure === '4-level') === (product.accessedFlags === 'lazy')
  const strided = (size: Size): boolean =>
    size === 'small' && (product.protectionKeys || product.smep)
  return {
    name: nameOf(product),
    title: `access.c on ${product.structure} paging, MAXPHYADDR ${product.physicalAddressBits}${product.protectionKeys ? ', protection keys' : ''}${product.smep ? ', CR4.SMEP' : ''}`,
    chunks: (size) => (size === 'small' && !inSmall ? 0 : controlSettings(product).length),
    combinations: (size) => (strided(size) ? undefined : publishedCombinations(product)),
    run(chunk, size, recorder, manuals) {
      const stride = strided(size) ? SMALL_STRIDE : 1
      runAccessProduct(product, chunk, stride, recorder, manuals)
    },
  }
}

/**
 * The products of access.c: three widths of physical addresses, with and without protection keys, on 4 and 5 levels, by both policies for accessed flags; and
 * the same with CR4.SMEP, which access.c leaves out, without keys.
 */
export const ACCESS_SETS: readonly ConformanceSet[] = [false, true].flatMap((smep) =>
  [52, 46, 36].flatMap((physicalAddressBits) =>
    (smep ? [false] : [false, true]).flatMap((protectionKeys) =>
      (['4-level', '5-level'] as const).flatMap((structure) =>
        (['lazy', 'eager'] as const).map((accessedFlags) =>
          productSet({ physicalAddressBits, protectionKeys, structure, accessedFlags, smep }),
        ),
      ),
    ),
  ),
)
