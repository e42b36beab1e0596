import { AccessKind } from '@trapdoor/core'

import type { ConformanceSet } from '../runner/conformance-set.ts'
import { BOTH } from '../trial/control-product.ts'
import {
  currentPcid,
  describeWorld,
  FlushMachine,
  type FlushWorld,
  pcidsOf,
  ROOT,
} from './flush-machine.ts'
import { type Operation, operations } from './operations.ts'
import type { Manuals } from '../runner/manuals.ts'
import type { Recorder } from '../runner/recorder.ts'

const PDPT = 0x1_2000
const PD = 0x1_3000
const PT = 0x1_4000
const PML4_INDEX = 0x11
const BASE = BigInt(PML4_INDEX) << 39n
const KIB4 = 1n << 12n
const MIB2 = 1n << 21n
const GIB1 = 1n << 30n

/** A page: where its entry is, what it maps first and then, and the addresses in it that are used. */
interface Page {
  readonly table: number
  readonly index: number
  readonly before: number
  readonly after: number
  readonly start: bigint
  readonly bytes: bigint
  readonly global: boolean
  readonly offsets: readonly bigint[]
}

/** Of each size a page, and a global one; beside the first of 4 KiB another, and in each large page two addresses. */
function pages(): Page[] {
  const page = (
    table: number,
    index: number,
    bytes: bigint,
    global: boolean,
    frame: number,
  ): Page => {
    const flags = 3 | (bytes > KIB4 ? 0x80 : 0) | (global ? 0x100 : 0)
    const start = BASE + BigInt(index) * bytes
    return {
      table,
      index,
      before: frame + flags,
      after: frame + Number(bytes) * 16 + flags,
      start,
      bytes,
      global,
      offsets: bytes > KIB4 ? [0n, bytes - 0x3000n] : [0n],
    }
  }
  return [
    page(PT, 0, KIB4, false, 0x100_0000),
    page(PT, 1, KIB4, true, 0x200_0000),
    page(PT, 2, KIB4, false, 0x300_0000),
    page(PD, 1, MIB2, false, 0x400_0000),
    page(PD, 2, MIB2, true, 0x800_0000),
    page(PDPT, 1, GIB1, false, 0x4000_0000),
    page(PDPT, 2, GIB1, true, 0xc000_0000),
  ]
}

const PAGES = pages()
const ADDRESSES: readonly bigint[] = PAGES.flatMap(({ start, offsets }) =>
  offsets.map((offset) => start + offset),
)

/** How a mapping changes: it leads elsewhere, or nowhere. */
const CHANGES = ['moved', 'removed'] as const

function worlds(): FlushWorld[] {
  return (['4-level', '5-level'] as const).flatMap((structure) =>
    BOTH.flatMap((pge) =>
      BOTH.flatMap((pcide) =>
        BOTH.map((smep) => ({ structure, pge, pcide, smep, structureCaches: true })),
      ),
    ),
  )
}

/** Which translations each operation leaves in the TLB: those that must go are gone, all others are still used. */
export const TLB_SET: ConformanceSet = {
  name: 'tlb',
  title:
    'INVLPG, INVPCID 0-3, MOV CR3, CR4, CR0.PG, #PF × pages of 3 sizes, global or not × PCIDs, PGE, PCIDE',
  chunks: () => worlds().length,
  run(chunk, _size, recorder, manuals) {
    const world = worlds()[chunk]!
    const all = operations({
      pcids: pcidsOf(world),
      pcide: world.pcide,
      smep: world.smep,
      addresses: [...ADDRESSES, BASE + 0x40_3000n, 0x1000n],
      root: ROOT,
    })
    for (const operation of all)
      for (const change of CHANGES) tryOperation(world, operation, change, recorder, manuals)
  },
}

function tryOperation(
  world: FlushWorld,
  operation: Operation,
  change: (typeof CHANGES)[number],
  recorder: Recorder,
  manuals: Manuals,
): void {
  const machine = new FlushMachine(world)
  const top = world.structure === '5-level' ? 0x1_1000 : ROOT
  if (world.structure === '5-level') machine.write(ROOT, 0, 0x1_1003)
  machine.write(top, PML4_INDEX, PDPT | 3)
  machine.write(PDPT, 0, PD | 3)
  machine.write(PD, 0, PT | 3)
  for (const page of PAGES) machine.write(page.table, page.index, page.before)
  const pcids = pcidsOf(world)
  for (const pcid of pcids) {
    machine.enter(pcid)
    for (const address of ADDRESSES) machine.access(address, AccessKind.Write)
  }
  const current = currentPcid(world)
  machine.enter(current)
  for (const page of PAGES)
    machine.write(page.table, page.index, change === 'moved' ? page.after : 0)
  operation.run(machine.cpu)
  const left = operation.contextsLeft === 'all' ? pcids : [current]
  for (const pcid of left) {
    if (operation.contextsLeft === 'all') machine.enter(pcid)
    for (const page of PAGES) {
      const global = page.global && world.pge
      // The first context that used a global page cached it; the others found it there.
      const cachedIn = global ? pcids[0]! : pcid
      const fate = manuals.fateOf(operation.meaning, current, {
        in: 'TLB',
        pcid: cachedIn,
        global,
        start: page.start,
        bytes: page.bytes,
      })
      for (const offset of page.offsets) {
        const kept = frameAt(page.before, offset)
        const walked = change === 'moved' ? frameAt(page.after, offset) : '#PF 0'
        const found = machine.access(page.start + offset)
        const expected =
          fate === 'gone' ? walked : fate === 'may stay' ? kept : `${kept} or ${walked}`
        const fits = fate === 'open' ? found === kept || found === walked : found === expected
        recorder.compare(
          expected,
          fits ? expected : found,
          () =>
            `${describeWorld(world)}, current PCID ${current}: pages ${change}, then ${operation.name}; read of 0x${(page.start + offset).toString(16)} (${page.bytes} bytes${global ? ', global' : ''}) with PCID ${pcid}`,
        )
      }
    }
  }
}

function frameAt(entry: number, offset: bigint): string {
  const frame = Math.floor(entry / 4096) + Number(offset >> 12n)
  return `frame 0x${frame.toString(16)}`
}
