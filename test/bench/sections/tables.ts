// Building identity maps, as c/tables.c does: flat memory, where the tables of the last run are built over, and sparse memory that is new each time.
// The checksum is the number of tables and the frames that some addresses lead to.
import {
  FOUR_LEVEL,
  PAGE_SIZE,
  PAGE_SIZE_1G,
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

const GIB = 2 ** 30
const ROOT_FRAME = 1
const SAMPLES = 1000
const MAPS = [
  { name: '64GiB-4K', bytes: 64 * GIB, largestPage: PAGE_SIZE, windows: 20 },
  { name: '64GiB-2M', bytes: 64 * GIB, largestPage: PAGE_SIZE_2M, windows: 2000 },
  { name: '64GiB-1G', bytes: 64 * GIB, largestPage: PAGE_SIZE_1G, windows: 20_000 },
  { name: '64TiB-1G', bytes: 65_536 * GIB, largestPage: PAGE_SIZE_1G, windows: 2000 },
] as const

const flat = new PhysicalMemory({ flatWindow: 2 ** 28 })
for (const map of MAPS) {
  measure(`flat/${map.name}`, map.windows, 1, () => build(flat, map))
  measure(`sparse/${map.name}`, Math.ceil(map.windows / 10), 1, () =>
    build(new PhysicalMemory(), map),
  )
}
for (const map of MAPS) console.log(`bytes/${map.name} 0 ${tableBytes(map)}`)

/** Returns the number of tables. */
function build(memory: PhysicalMemory, { bytes, largestPage }: (typeof MAPS)[number]): number {
  let next = ROOT_FRAME + 1
  memory.clearFrame(ROOT_FRAME)
  const tables = new PageTableBuilder(memory, phys(ROOT_FRAME * 4096), () => next++)
  tables.mapRange(virt(0), phys(0), bytes, { executable: true, largestPage })
  return next - ROOT_FRAME
}

/** The bytes of the tables, of which every sample is translated right. */
function tableBytes(map: (typeof MAPS)[number]): number {
  const memory = new PhysicalMemory()
  const tables = build(memory, map)
  const walker = new PageWalker(memory, FOUR_LEVEL, SAPPHIRE_RAPIDS, true)
  const random = new Random(1)
  for (let sample = 0; sample < SAMPLES; sample++) {
    const page = random.below(map.bytes / 4096)
    const status = walker.walk(ROOT_FRAME, Math.floor(page / 2 ** 20), (page << 12) | 0)
    if (status !== 0 || walker.frame !== page) throw new Error(`${map.name}: page ${page} is wrong`)
  }
  return tables * 4096
}
