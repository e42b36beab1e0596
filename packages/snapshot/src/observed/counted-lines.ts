/** What was counted in a call, of the firmware's code. Iterations of a repeated instruction count one each, and one more finds that there is none left. */
export interface InstructionCounts {
  readonly instructions: number
  readonly distinct: number
  readonly loads: number
  readonly stores: number
  readonly deviceAccesses: number
}

/** How often a page was touched. */
export interface PageTouches {
  /** Linear address of the page. */
  readonly page: bigint
  /** Physical address of the page; undefined where only instructions were fetched, as the recorder does not know it there. */
  readonly physical: number | undefined
  readonly reads: number
  readonly writes: number
  /** Instructions that begin in it. */
  readonly executions: number
  /** The device that answered; undefined for memory. */
  readonly device: string | undefined
}

/** Takes a line of counts apart. Throws a RangeError that says what was expected. */
export function parseCounts(line: string): InstructionCounts {
  const words =
    /insns=(?<instructions>\d+) distinct=(?<distinct>\d+) loads=(?<loads>\d+) stores=(?<stores>\d+) mmio=(?<deviceAccesses>\d+)/.exec(
      line,
    )?.groups
  if (words === undefined) {
    throw new RangeError('a line "CALL … insns=… distinct=… loads=… stores=… mmio=…"')
  }
  return {
    instructions: Number(words['instructions']),
    distinct: Number(words['distinct']),
    loads: Number(words['loads']),
    stores: Number(words['stores']),
    deviceAccesses: Number(words['deviceAccesses']),
  }
}

/** The line that {@link parseCounts} takes apart, of call `number` from 1 on. */
export function formatCounts(counts: InstructionCounts, number: number, entry: bigint): string {
  const { instructions, distinct, loads, stores, deviceAccesses } = counts
  return `CALL ${number} ok entry=${entry.toString(16)} insns=${instructions} distinct=${distinct} loads=${loads} stores=${stores} mmio=${deviceAccesses}`
}

/** Takes a line about a page apart. Throws a RangeError that says what was expected. */
export function parsePageTouches(line: string): PageTouches {
  const words =
    /^va=(?<page>[\da-f]+) pa=(?<physical>[\da-f]+) r=(?<reads>\d+) w=(?<writes>\d+) x=(?<executions>\d+)(?: io=(?<device>.*))?$/.exec(
      line,
    )?.groups
  if (words === undefined) throw new RangeError('a line "va=… pa=… r=… w=… x=…"')
  const [reads, writes] = [Number(words['reads']), Number(words['writes'])]
  return {
    page: BigInt(`0x${words['page']}`),
    physical: reads + writes === 0 ? undefined : Number(`0x${words['physical']}`),
    reads,
    writes,
    executions: Number(words['executions']),
    device: words['device'],
  }
}

/** The line that {@link parsePageTouches} takes apart. */
export function formatPageTouches(touches: PageTouches): string {
  const { page, physical = 0, reads, writes, executions, device } = touches
  const place = `va=${page.toString(16)} pa=${physical.toString(16)}`
  return `${place} r=${reads} w=${writes} x=${executions}${device === undefined ? '' : ` io=${device}`}`
}
