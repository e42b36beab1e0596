import type { PhysicalMemory } from '@trapdoor/core'
import type { Execution } from '@trapdoor/cpu'
import type { PageTouches, RecordedCall } from '@trapdoor/snapshot'
import { compareNumbers, type Difference, hex } from './difference.ts'

const PAGE = 4096n

interface Touches {
  readonly page: bigint
  /** Undefined for fetches. */
  readonly physical: number | undefined
  /** What stands for the name of a device; undefined for memory. */
  readonly device: 'device' | undefined
  reads: number
  writes: number
  executions: number
}

/**
 * What machine code does, counted as a plugin of QEMU counts it: instructions by the page that they begin in, with one for each iteration of a repeated one, and loads and stores by the
 * page of their first byte.
 */
export class InstructionTrace {
  #loads = 0
  #stores = 0
  #deviceAccesses = 0
  readonly #touches: Map<string, Touches> = new Map()
  readonly #seen: Set<bigint> = new Set()
  readonly #execution: Execution
  readonly #memory: PhysicalMemory
  /** The instruction that is carried out, and how many were before it. */
  #rip: bigint | undefined
  #before = 0

  constructor(execution: Execution) {
    this.#execution = execution
    this.#memory = execution.cpu.machine.memory
  }

  /** Traces what `run` executes. */
  during(run: () => void): void {
    const execution = this.#execution
    this.#before = execution.instructions
    execution.tracer = (cpu) => {
      this.#settle()
      this.#rip = cpu.rip
    }
    execution.accessTracer = (access, address) => {
      this.#access(access, address)
    }
    try {
      run()
    } finally {
      execution.tracer = undefined
      execution.accessTracer = undefined
      this.#settle()
    }
  }

  /** How often each page was touched. */
  get touches(): readonly PageTouches[] {
    return [...this.#touches.values()]
  }

  /** What was counted otherwise than recorded. */
  compare({ counts, pages }: RecordedCall): Difference[] {
    const instructions = this.touches.reduce((sum, { executions }) => sum + executions, 0)
    return [
      ...compareNumbers('instructions', counts.instructions, instructions),
      ...compareNumbers('distinct instructions', counts.distinct, this.#seen.size),
      ...compareNumbers('loads', counts.loads, this.#loads),
      ...compareNumbers('stores', counts.stores, this.#stores),
      ...compareNumbers('device accesses', counts.deviceAccesses, this.#deviceAccesses),
      ...comparePages(pages, this.touches),
    ]
  }

  /** What was executed in other numbers than recorded, in the pages that `isCode` names: where others ran as well, they are all that can be compared. */
  compareCode({ pages }: RecordedCall, isCode: (page: bigint) => boolean): Difference[] {
    const ofCode = ({ page, physical }: PageTouches): boolean =>
      physical === undefined && isCode(page)
    return comparePages(pages.filter(ofCode), this.touches.filter(ofCode))
  }

  /** The instruction before has been carried out. */
  #settle(): void {
    const { instructions } = this.#execution
    if (this.#rip !== undefined) {
      this.#seen.add(this.#rip)
      this.#touch(this.#rip, undefined, false).executions += instructions - this.#before
    }
    this.#before = instructions
    this.#rip = undefined
  }

  #access(access: 'read' | 'write', address: bigint): void {
    const physical = this.#execution.cpu.peekPhysical(address) ?? 0
    const device = this.#memory.deviceAt(Math.floor(physical / Number(PAGE)))
    // A flash that reads as memory is memory, for reads.
    const isDevice = device !== undefined && !(access === 'read' && device.readsAsMemory === true)
    const touches = this.#touch(address, physical - (physical % Number(PAGE)), isDevice)
    if (access === 'read') {
      touches.reads++
      this.#loads++
    } else {
      touches.writes++
      this.#stores++
    }
    if (isDevice) this.#deviceAccesses++
  }

  #touch(address: bigint, physical: number | undefined, device: boolean): Touches {
    const page = address - (address % PAGE)
    const key = `${page} ${physical} ${device}`
    let touches = this.#touches.get(key)
    if (touches === undefined) {
      const kind = device ? 'device' : undefined
      touches = { page, physical, device: kind, reads: 0, writes: 0, executions: 0 }
      this.#touches.set(key, touches)
    }
    return touches
  }
}

/** Pages that were touched otherwise than recorded. */
function comparePages(
  recorded: readonly PageTouches[],
  replayed: readonly PageTouches[],
): Difference[] {
  const expected = new Map(recorded.map((touches) => [keyOf(touches), touches]))
  const found = new Map(replayed.map((touches) => [keyOf(touches), touches]))
  return [...new Set([...expected.keys(), ...found.keys()])].toSorted().flatMap((key) => {
    const [wanted, got] = [expected.get(key), found.get(key)].map(describe)
    if (wanted === got) return []
    return [{ compared: 'page', place: key, recorded: wanted!, replayed: got! } as const]
  })
}

function keyOf({ page, physical, device }: PageTouches): string {
  if (physical === undefined) return `code at ${hex(page)}`
  return `${hex(page)}, ${device === undefined ? 'memory' : 'device'} at ${hex(physical)}`
}

function describe(touches: PageTouches | undefined): string {
  if (touches === undefined) return 'not touched'
  const { physical, reads, writes, executions } = touches
  if (physical === undefined) return `${executions} instructions`
  return `${reads} reads, ${writes} writes`
}
