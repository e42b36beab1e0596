// Forks of memory, as c/forks.c does them: so many frames are touched, in memory of different sizes, then it is forked; and forked with one word written in each of a thousand frames
// after. What a fork costs grows with what was touched, not with what there could be.
import { PhysicalMemory } from '@trapdoor/core'
import { measure } from '../measure.ts'

const MIB_FRAMES = 256
const WRITES = 1000
const WORKLOADS = [
  { name: '16MiB-of-16GiB', touched: 16 * MIB_FRAMES, highest: 4 * 2 ** 20 },
  { name: '256MiB-of-16GiB', touched: 256 * MIB_FRAMES, highest: 4 * 2 ** 20 },
  { name: '1GiB-of-16GiB', touched: 1024 * MIB_FRAMES, highest: 4 * 2 ** 20 },
  { name: '1GiB-of-1TiB', touched: 1024 * MIB_FRAMES, highest: 2 ** 28 },
  { name: '1GiB-of-4PiB', touched: 1024 * MIB_FRAMES, highest: 2 ** 40 },
] as const

for (const { name, touched, highest } of WORKLOADS) {
  const memory = new PhysicalMemory()
  for (let frame = 0; frame < touched - 1; frame++) memory.write32(frame * 4096, frame)
  // The last frame that the machine has.
  memory.write32((highest - 1) * 4096, 1)
  measure(`fork/${name}`, 2000, 1, () => memory.fork().read32(4096 * 5))
  measure(`fork-and-write/${name}`, 50, 1, () => {
    const fork = memory.fork()
    for (let frame = 0; frame < WRITES; frame++) fork.write32(frame * 4096, 7)
    return fork.read32(4096 * 5) + memory.read32(4096 * 5)
  })
}
