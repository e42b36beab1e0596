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

/** One level whose entry is changed: the entry's position and reach, and an address that needs it but no cached entry further down. */
interface ChangedLevel {
  readonly name: string
  readonly shift: number
}

const LEVELS: readonly ChangedLevel[] = [
  { name: 'PDE', shift: 21 },
  { name: 'PDPTE', shift: 30 },
  { name: 'PML4E', shift: 39 },
  { name: 'PML5E', shift: 48 },
]

const BASE = 0x0000_0880_0000_0000n
/** Tables that were there first, one for each level from the top, and those that the changed entry leads to. */
const OLD_TABLES = 0x2_0000
const NEW_TABLES = 0x3_0000
const OLD_FRAME = 0x700_0000
const NEW_FRAME = 0x800_0000

function worlds(): FlushWorld[] {
  return (['4-level', '5-level'] as const).flatMap((structure) =>
    BOTH.flatMap((pcide) =>
      BOTH.flatMap((smep) =>
        BOTH.map((structureCaches) => ({ structure, pge: true, pcide, smep, structureCaches })),
      ),
    ),
  )
}

/** Which entries each operation leaves in the paging-structure caches. */
export const STRUCTURE_CACHE_SET: ConformanceSet = {
  name: 'structure-caches',
  title:
    'the same operations × the changed entry at each level above the PTE × PCIDs, caches on or off',
  chunks: () => worlds().length,
  run(chunk, _size, recorder, manuals) {
    const world = worlds()[chunk]!
    const all = operations({
      pcids: pcidsOf(world),
      pcide: world.pcide,
      smep: world.smep,
      addresses: [BASE, BASE + 0x1000n, BASE + (1n << 29n), 0x1000n],
      root: ROOT,
    })
    for (const level of LEVELS.slice(0, world.structure === '5-level' ? 4 : 3))
      for (const operation of all) tryOperation(world, level, operation, recorder, manuals)
  },
}

/** The table for a level, counted by its shift. */
function table(base: number, shift: number): number {
  return base + ((shift - 12) / 9) * 0x1000
}

function index(address: bigint, shift: number): number {
  return Number((address >> BigInt(shift)) & 0x1ffn)
}

/** Maps an address through tables below `base`, from the table that the entry at `shift` points to down to a page of 4 KiB. */
function mapBelow(
  machine: FlushMachine,
  base: number,
  shift: number,
  address: bigint,
  frame: number,
): void {
  for (let level = shift - 9; level > 12; level -= 9)
    machine.write(table(base, level), index(address, level), table(base, level - 9) | 3)
  machine.write(table(base, 12), index(address, 12), frame | 3)
}

function tryOperation(
  world: FlushWorld,
  level: ChangedLevel,
  operation: Operation,
  recorder: Recorder,
  manuals: Manuals,
): void {
  const machine = new FlushMachine(world)
  const rootShift = world.structure === '5-level' ? 48 : 39
  const tableOf = (base: number, shift: number): number =>
    shift === rootShift ? ROOT : table(base, shift)
  for (let shift = rootShift; shift > 12; shift -= 9)
    machine.write(tableOf(OLD_TABLES, shift), index(BASE, shift), table(OLD_TABLES, shift - 9) | 3)
  machine.write(table(OLD_TABLES, 12), index(BASE, 12), OLD_FRAME | 3)
  // Next to BASE in the reach of the changed entry, but of no entry below it.
  const probe = BASE + (1n << BigInt(level.shift - 9))
  mapBelow(machine, OLD_TABLES, level.shift, probe, OLD_FRAME + 0x1000)
  mapBelow(machine, NEW_TABLES, level.shift, probe, NEW_FRAME)
  const pcids = pcidsOf(world)
  for (const pcid of pcids) {
    machine.enter(pcid)
    machine.access(BASE)
  }
  const current = currentPcid(world)
  machine.enter(current)
  machine.write(
    tableOf(OLD_TABLES, level.shift),
    index(BASE, level.shift),
    table(NEW_TABLES, level.shift - 9) | 3,
  )
  operation.run(machine.cpu)
  const reach = 1n << BigInt(level.shift)
  for (const pcid of operation.contextsLeft === 'all' ? pcids : [current]) {
    if (operation.contextsLeft === 'all') machine.enter(pcid)
    const fate = manuals.fateOf(operation.meaning, current, {
      in: 'paging-structure cache',
      pcid,
      global: false,
      start: BASE & ~(reach - 1n),
      bytes: reach,
    })
    const kept = `frame 0x${((OLD_FRAME + 0x1000) >>> 12).toString(16)}`
    const walked = `frame 0x${(NEW_FRAME >>> 12).toString(16)}`
    const found = machine.access(probe)
    const mustWalk = fate === 'gone' || !world.structureCaches
    const expected = mustWalk ? walked : fate === 'may stay' ? kept : `${kept} or ${walked}`
    const open = !mustWalk && fate === 'open' && (found === kept || found === walked)
    recorder.compare(
      expected,
      open ? expected : found,
      () =>
        `${describeWorld(world)}, current PCID ${current}: ${level.name} changed, then ${operation.name}; read of 0x${probe.toString(16)} with PCID ${pcid}`,
    )
  }
}
