import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  BROADWELL,
  FOUR_LEVEL,
  PAGE_SIZE,
  PAGE_SIZE_2M,
  PageTableBuilder,
  PageWalker,
  phys,
  PhysicalMemory,
  virt,
} from '@trapdoor/core'
import { execa, ExecaError } from 'execa'

const GIB = 2 ** 30
const MIB = 2 ** 20
/** Memory that holds the page tables, in the flat window. */
const WINDOW = 64 * MIB
const ROOT = 0x1000
const ADDRESSES = 32_768
/** Times that the addresses are walked; the fastest counts, as other load on the machine only ever adds to a time. */
const WINDOWS = 400

/** Address ranges of a 2.6.35 kernel with a private EFI page table, each a workload of its own. */
const REGIONS = [
  {
    name: 'direct map, 2 MiB pages',
    start: 0xffff_8800_0000_0000n,
    physical: 0,
    bytes: 4 * GIB,
    page: PAGE_SIZE_2M,
  },
  {
    name: 'vmalloc, 4 KiB pages',
    start: 0xffff_c900_0000_0000n,
    physical: GIB,
    bytes: 8 * MIB,
    page: PAGE_SIZE,
  },
  {
    name: 'EFI identity, 4 KiB pages',
    start: 0x7d00_0000n,
    physical: 0x7d00_0000,
    bytes: 32 * MIB,
    page: PAGE_SIZE,
  },
] as const

interface Workload {
  readonly name: string
  readonly addresses: BigUint64Array
}

interface Measured {
  /** Nanoseconds a walk, in the fastest window. */
  readonly nanoseconds: number
  /** Sum of the frames that one window translated to. */
  readonly sum: bigint
}

/** Measures core's page walk and the same walk in C, compiled now, and prints both. */
export async function benchPageWalk(): Promise<void> {
  const memory = new PhysicalMemory({ flatWindow: WINDOW })
  buildTables(memory)
  const workloads = makeWorkloads()
  const inC = await measureInC(memory, workloads)
  const inTypeScript = workloads.map((workload) => measureInTypeScript(memory, workload))
  console.log(
    `page walks per second (4-level, flat window, fastest of ${WINDOWS} windows of ${ADDRESSES})`,
  )
  for (const [index, workload] of workloads.entries()) {
    const own = inTypeScript[index]!
    const line = [workload.name.padEnd(28), `core ${rate(own)}`]
    const reference = typeof inC === 'string' ? undefined : inC[index]!
    if (reference !== undefined) {
      if (reference.sum !== own.sum) throw new Error(`${workload.name}: C translates differently`)
      const ratio = reference.nanoseconds / own.nanoseconds
      line.push(`C ${rate(reference)}`, `ratio ${ratio.toFixed(2)}`)
    }
    console.log(`  ${line.join('   ')}`)
  }
  if (typeof inC === 'string') console.log(`  no ratio: ${inC}`)
}

function buildTables(memory: PhysicalMemory): void {
  let next = ROOT / PAGE_SIZE + 1
  const builder = new PageTableBuilder(memory, phys(ROOT), () => next++)
  for (const region of REGIONS) {
    builder.mapRange(virt(region.start), phys(region.physical), region.bytes, {
      largestPage: region.page,
    })
  }
}

/** One workload a region, and one that jumps between them as a runtime call does. */
function makeWorkloads(): Workload[] {
  let state = 1
  const random = (limit: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
  const addressIn = (region: (typeof REGIONS)[number]): bigint =>
    region.start + BigInt(random(region.bytes))
  const fill = (pick: () => (typeof REGIONS)[number]): BigUint64Array =>
    BigUint64Array.from({ length: ADDRESSES }, () => addressIn(pick()))
  return [
    ...REGIONS.map((region) => ({ name: region.name, addresses: fill(() => region) })),
    { name: 'all of them in turn', addresses: fill(() => REGIONS[random(REGIONS.length)]!) },
  ]
}

/** What a supervisor's read, write and execution need, as walk.c has it: bit n says whether rights n allow it. */
const ALLOWED = Uint8Array.of(0xff, 0xaa, 0x0f)

function measureInTypeScript(memory: PhysicalMemory, workload: Workload): Measured {
  const walker = new PageWalker(memory, FOUR_LEVEL, BROADWELL, true)
  const halves = new Int32Array(workload.addresses.buffer)
  let fastest = Infinity
  let sum = 0
  for (let window = 0; window < WINDOWS; window++) {
    const start = performance.now()
    sum = walkAll(walker, halves)
    fastest = Math.min(fastest, performance.now() - start)
  }
  return { nanoseconds: (fastest * 1e6) / ADDRESSES, sum: BigInt(sum) }
}

function walkAll(walker: PageWalker, halves: Int32Array): number {
  let sum = 0
  for (let index = 0; index < ADDRESSES; index++) {
    const kind = index & 1
    const status = walker.walk(ROOT / PAGE_SIZE, halves[index * 2 + 1]!, halves[index * 2]!)
    if (status !== 0 || (ALLOWED[kind]! & (1 << (walker.rights & 7))) === 0) {
      throw new Error('every address of a workload is mapped')
    }
    walker.markUsed(halves[index * 2 + 1]!, halves[index * 2]!, kind === 1)
    sum += walker.frame
  }
  return sum
}

/** The measurements of walk.c, or why there are none. */
async function measureInC(
  memory: PhysicalMemory,
  workloads: readonly Workload[],
): Promise<Measured[] | string> {
  const folder = await mkdtemp(join(tmpdir(), 'trapdoor-bench-'))
  try {
    const program = join(folder, 'walk')
    try {
      await execa('cc', ['-O2', '-o', program, join(import.meta.dirname, 'walk.c')])
    } catch (error) {
      if (error instanceof ExecaError && error.code === 'ENOENT') {
        return 'there is no C compiler `cc` on this machine to compare with'
      }
      throw error
    }
    const header = BigUint64Array.of(
      BigInt(WINDOW),
      BigInt(ROOT),
      BigInt(workloads.length),
      BigInt(ADDRESSES),
      BigInt(WINDOWS),
    )
    const input = Buffer.concat([
      new Uint8Array(header.buffer),
      memory.read(0, WINDOW),
      ...workloads.map((workload) => new Uint8Array(workload.addresses.buffer)),
    ])
    const { stdout } = await execa(program, { input })
    return stdout.split('\n').map((line) => {
      const [nanoseconds, sum] = line.split(' ')
      return { nanoseconds: Number(nanoseconds), sum: BigInt(sum!) }
    })
  } finally {
    await rm(folder, { recursive: true })
  }
}

function rate({ nanoseconds }: Measured): string {
  return `${(1000 / nanoseconds).toFixed(1).padStart(6)} M/s`
}
