// Page walks: PageWalker with permission and accessed/dirty flags, as c/walks.c does them. The memory and the number of levels come as arguments: each
// process sees one kind of memory, as a program would.
import {
  FIVE_LEVEL,
  FOUR_LEVEL,
  PAGE_SIZE_2M,
  PageTableBuilder,
  PageWalker,
  phys,
  PhysicalMemory,
  SAPPHIRE_RAPIDS,
  virt,
} from '@trapdoor/core'
import { measure } from '../measure.ts'
import { Random } from '../random.ts'

const ADDRESSES = 32_768
const WINDOWS = 600
const BASE_4K = 0x7f00_0000_0000n
const BASE_2M = 0x7e00_0000_0000n
const BYTES = 2 ** 32
const ROOT = 0x1000
/** What a supervisor's read and write need, as c/walks.c has it: bit n says whether rights n allow it. */
const ALLOWED = Uint8Array.of(0xff, 0xaa)

const [kind, levels] = process.argv.slice(2)
const mode = levels === '5-level' ? FIVE_LEVEL : FOUR_LEVEL
const memory = new PhysicalMemory({ flatWindow: kind === 'flat' ? 2 ** 26 : 0 })
let next = 2
const tables = new PageTableBuilder(memory, phys(ROOT), () => next++, { mode })
tables.mapRange(virt(BASE_4K), phys(0), BYTES, { executable: true })
tables.mapRange(virt(BASE_2M), phys(0), BYTES, { executable: true, largestPage: PAGE_SIZE_2M })

const patterns = ['sequential', 'local', 'random', 'random-2M'] as const
const halves = patterns.map(() => new Int32Array(ADDRESSES * 2))
const random = new Random(1)
for (let at = 0; at < ADDRESSES; at++) {
  put(0, at, BASE_4K, at * 64)
  put(1, at, BASE_4K, random.below(2 ** 23))
  put(2, at, BASE_4K, random.below(BYTES))
  put(3, at, BASE_2M, random.below(BYTES))
}
const features = { ...SAPPHIRE_RAPIDS, maxPhysicalAddressBits: 46 }
const walker = new PageWalker(memory, mode, features, true)
for (const [pattern, name] of patterns.entries()) {
  measure(`${kind}/${mode.name}/${name}`, WINDOWS, ADDRESSES, () => walkAll(halves[pattern]!))
}

function put(pattern: number, at: number, base: bigint, offset: number): void {
  const address = base + BigInt(offset)
  halves[pattern]![at * 2] = Number(address & 0xffff_ffffn)
  halves[pattern]![at * 2 + 1] = Number(address >> 32n)
}

function walkAll(addresses: Int32Array): number {
  let sum = 0
  for (let at = 0; at < ADDRESSES; at++) {
    const low = addresses[at * 2]!
    const high = addresses[at * 2 + 1]!
    const access = at & 1
    // 0 is WalkStatus.Mapped, of which V8 would look the property up each time.
    const isMapped = walker.walk(1, high, low) === 0
    if (!isMapped || (ALLOWED[access]! & (1 << (walker.rights & 7))) === 0) {
      throw new Error('every address of a workload is mapped')
    }
    walker.markUsed(high, low, access === 1)
    sum += walker.frame
  }
  return sum
}
