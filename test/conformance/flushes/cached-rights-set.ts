import { AccessKind } from '@trapdoor/core'

import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import { BOTH, stateProduct } from '../trial/control-product.ts'
import { KINDS } from '../trial/core-access.ts'
import { ACCESSES } from '../oracle/access-rights.ts'
import { PLAIN_STATE, type RegisterState, translationState } from '../oracle/register-state.ts'
import { NO_FAULT, Path } from '../oracle/translation.ts'
import { describeAccess, describeOutcome, describeState } from '../trial/wording.ts'
import { Processor } from '../trial/processor.ts'

const TABLES = [0x10, 0x11, 0x12, 0x13, 0x14]
const DATA = 0x40_0000
/** R/W, U/S, XD, dirty, key 5. */
const PAGE_FLAGS = 32
const KEY = 5

/** The register value in which key 5 has the given rights and the others none denied. */
function rights(value: number): number {
  return value << (2 * KEY)
}

function states(structure: RegisterState['structure']): RegisterState[] {
  const keys = [undefined, ...[0, 1, 2, 3].map(rights)]
  return stateProduct(
    { ...PLAIN_STATE, structure },
    { wp: BOTH, smep: BOTH, smap: BOTH, ac: BOTH, pkru: keys, pkrs: keys },
  )
}

const STRUCTURES = ['4-level', '5-level'] as const

/** The number of a page's entry: each kind of page is there once for every kind of access. */
function entryIndex(flags: number, access: number): number {
  return flags * ACCESSES.length + access
}

/** Control bits that change after a translation was cached count at once: a TLB holds rights, not what they permitted. */
export const CACHED_RIGHTS_SET: ConformanceSet = {
  name: 'cached-rights',
  title:
    'a cached page of all rights, then WP, SMEP, SMAP, AC, PKE, PKRU, PKS, PKRS changed × 8 accesses, without a flush',
  chunks: () => STRUCTURES.length,
  run(chunk, size: Size, recorder, manuals) {
    const structure = STRUCTURES[chunk]!
    const plain: RegisterState = { ...PLAIN_STATE, structure }
    const depths = structure === '5-level' ? 5 : 4
    for (const [number, state] of states(structure).entries()) {
      if (size === 'small' && number % 3 !== chunk) continue
      const processor = new Processor(plain, TABLES[0]! * 4096)
      const { cpu } = processor
      const { memory } = processor.machine
      for (let depth = 0; depth < depths - 1; depth++)
        memory.write64(TABLES[depth]! * 4096, BigInt(TABLES[depth + 1]! * 4096 + 7))
      const path = (flags: number): Path => {
        const entries = new Path()
        for (let depth = 0; depth < depths - 1; depth++)
          entries.set(depth, (TABLES[depth + 1]! * 4096) | 0x27, 0)
        const low = 0x21 | ((flags & 3) << 1) | ((flags & 8) === 0 ? 0 : 0x40)
        const high = ((flags & 4) === 0 ? 0 : 1 << 31) | ((flags & 16) === 0 ? 0 : KEY << 27)
        entries.set(depths - 1, DATA | low, high)
        return entries
      }
      const leafAddress = (index: number): number => TABLES[depths - 1]! * 4096 + index * 8
      for (let flags = 0; flags < PAGE_FLAGS; flags++)
        for (const [turn] of ACCESSES.entries()) {
          const entries = path(flags)
          const index = entryIndex(flags, turn)
          memory.write32(leafAddress(index), entries.low[depths - 1]! >>> 0)
          memory.write32(leafAddress(index) + 4, entries.high[depths - 1]! >>> 0)
          cpu.mmu.translate(0, index << 12, AccessKind.Read)
        }
      processor.apply(state)
      const oracle = manuals.translation(translationState(state))
      for (let flags = 0; flags < PAGE_FLAGS; flags++)
        for (const [turn, access] of ACCESSES.entries()) {
          const index = entryIndex(flags, turn)
          const entries = path(flags)
          const code = oracle.predict(entries, index << 12, access)
          oracle.mark(entries)
          const frame = cpu.mmu.translate(0, index << 12, KINDS[access]!)
          const found = frame < 0 ? cpu.mmu.errorCode : NO_FAULT
          const leaf = memory.read32(leafAddress(index)) | 0
          recorder.compare(
            `${describeOutcome(code, oracle.frame)}, PTE ${entries.low[depths - 1]!.toString(16)}`,
            `${describeOutcome(found, frame)}, PTE ${leaf.toString(16)}`,
            () =>
              `page flags ${flags.toString(2)} (key, D, XD, US, RW) read, then ${describeState(state)}, ${describeAccess(access)}`,
          )
        }
    }
  },
}
