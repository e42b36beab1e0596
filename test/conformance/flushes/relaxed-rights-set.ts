import { AccessKind } from '@trapdoor/core'

import type { ConformanceSet } from '../runner/conformance-set.ts'
import { BOTH } from '../trial/control-product.ts'
import { describeWorld, FlushMachine, type FlushWorld, ROOT } from './flush-machine.ts'

const STRUCTURES = ['4-level', '5-level'] as const
const ADDRESS = 0x1234_5000n
const FRAME = 0x700_0000

/** A change that allows more than before: SDM Vol. 3, 4.10.4.3 says that none of them needs a flush. */
interface Relaxation {
  readonly name: string
  readonly before: bigint
  readonly after: bigint
  readonly kind: number
  /** Nothing can have been cached of an entry that is not present or has a reserved bit: not even one fault may come of it. */
  readonly atOnce: boolean
}

const XD = 1n << 63n
const RELAXATIONS: readonly Relaxation[] = [
  { name: 'P set', before: 6n, after: 7n, kind: AccessKind.Read, atOnce: true },
  {
    name: 'a reserved bit cleared',
    before: 7n | (1n << 51n),
    after: 7n,
    kind: AccessKind.Read,
    atOnce: true,
  },
  { name: 'R/W set', before: 5n, after: 7n, kind: AccessKind.Write, atOnce: false },
  { name: 'U/S set', before: 3n, after: 7n, kind: AccessKind.UserOffset, atOnce: false },
  { name: 'XD cleared', before: 7n | XD, after: 7n, kind: AccessKind.Execute, atOnce: false },
]

function worlds(): FlushWorld[] {
  return STRUCTURES.flatMap((structure) =>
    BOTH.flatMap((pcide) =>
      BOTH.map((structureCaches) => ({
        structure,
        pge: true,
        pcide,
        smep: false,
        structureCaches,
      })),
    ),
  )
}

/** More rights without a flush: the access succeeds, at the latest when it is repeated after a page fault. */
export const RELAXED_RIGHTS_SET: ConformanceSet = {
  name: 'relaxed-rights',
  title:
    'P, R/W, U/S, reserved bit, XD relaxed at each level, no flush × cached or not: one page fault at most',
  chunks: () => worlds().length,
  run(chunk, _size, recorder) {
    const world = worlds()[chunk]!
    const shifts = world.structure === '5-level' ? [48, 39, 30, 21, 12] : [39, 30, 21, 12]
    for (const changed of shifts)
      for (const relaxation of RELAXATIONS)
        for (const attempted of BOTH)
          for (const global of BOTH) {
            const machine = new FlushMachine(world)
            const write = (shift: number, flags: bigint): void => {
              const depth = shifts.indexOf(shift)
              const target =
                shift === 12 ? FRAME | (global ? 0x100 : 0) : ROOT + (depth + 1) * 0x1000
              const index = Number((ADDRESS >> BigInt(shift)) & 0x1ffn)
              machine.writeEntry(ROOT + depth * 0x1000, index, BigInt(target) | flags)
            }
            for (const shift of shifts) write(shift, shift === changed ? relaxation.before : 7n)
            machine.access(ADDRESS)
            if (attempted) machine.access(ADDRESS, relaxation.kind)
            write(changed, relaxation.after)
            const attempts = [
              machine.access(ADDRESS, relaxation.kind),
              machine.access(ADDRESS, relaxation.kind),
            ]
            const expected = `frame 0x${(FRAME >>> 12).toString(16)}`
            const spurious = !relaxation.atOnce && attempts[0]!.startsWith('#PF')
            recorder.compare(
              `${expected}, ${expected}`,
              `${spurious ? expected : attempts[0]}, ${attempts[1]}`,
              () =>
                `${describeWorld(world)}: ${relaxation.name} in the entry at bit ${changed} of the address${attempted ? ', after a fault' : ''}${global ? ', global' : ''}`,
            )
          }
  },
}
