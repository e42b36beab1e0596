import {
  Cr4,
  formatAddress,
  type MachineEvent,
  type StaleTranslation,
  type TranslationNow,
} from '@trapdoor/core'
import { efiStatusName } from '@trapdoor/uefi'
import { padStart, plural } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'

/** How a timeline is told. */
export interface TimelineOptions {
  readonly paint: Paint
  /** The name of a root of page tables in a kernel, where it has one. */
  readonly rootName: (kernel: string, root: number) => string | undefined
  /** Every event, rather than long stretches of the same in one line. */
  readonly all: boolean
}

/** One line of the timeline, before lines of one kind are folded. */
interface Item {
  readonly sequence: number
  readonly era: string
  readonly depth: number
  readonly kind: MachineEvent['kind']
  readonly cpu: number | undefined
  readonly text: string
  /** Lines with the same non-empty fold next to one another become one. */
  readonly fold: string
}

/** Lines of one kind that are not worth folding; mixed ones have to be more. */
const SHORTEST_FOLD = { alike: 2, mixed: 4 }

/** Calls that change everything after them: these are never folded. */
const TURNING_POINTS: ReadonlySet<string> = new Set([
  'ExitBootServices',
  'SetVirtualAddressMap',
  'ResetSystem',
])

/** The events of a case in order, under the program that ran. */
export function renderTimeline(
  events: readonly MachineEvent[],
  options: TimelineOptions,
): string[] {
  const items = options.all
    ? describeAll(events, options)
    : fold(dropNested(describeAll(events, options)))
  const lines: string[] = []
  let era: string | undefined
  for (const item of items) {
    if (item.era !== era) {
      era = item.era
      lines.push(`  ${options.paint('bold', era)}`)
    }
    const place = options.paint('dim', padStart(String(item.sequence), 6))
    lines.push(`${place}  ${'  '.repeat(item.depth)}${paintItem(item, options.paint)}`)
  }
  return lines
}

function paintItem({ kind, text }: Item, paint: Paint): string {
  if (kind === 'exception' || kind === 'reset') return paint(['red', 'bold'], text)
  if (kind === 'phase') return paint('cyan', text)
  return kind === 'cr3-write' || kind === 'cr4-write' || kind === 'invlpg' || kind === 'invpcid'
    ? paint('dim', text)
    : text
}

function describeAll(events: readonly MachineEvent[], { rootName }: TimelineOptions): Item[] {
  const items: Item[] = []
  const returns = matchReturns(events)
  let depth = 0
  for (const [index, event] of events.entries()) {
    if (event.kind === 'return') {
      depth = Math.max(0, depth - 1)
      continue
    }
    const { sequence, era, kind } = event
    const cpu = 'cpu' in event ? event.cpu : undefined
    const told = describe(event, returns.get(index), rootName)
    items.push({ sequence, era, depth, kind, cpu, ...told })
    if (event.kind === 'call') depth++
    if (event.kind === 'phase') depth = 0
  }
  return items
}

/** For the index of each call the event that ended it. A call that never returned has none. */
function matchReturns(events: readonly MachineEvent[]): Map<number, MachineEvent> {
  const returns = new Map<number, MachineEvent>()
  const open = new Map<number, number[]>()
  for (const [index, event] of events.entries()) {
    if (event.kind === 'call') open.set(event.cpu, [...(open.get(event.cpu) ?? []), index])
    if (event.kind !== 'return') continue
    const call = open.get(event.cpu)?.pop()
    if (call !== undefined) returns.set(call, event)
  }
  return returns
}

function describe(
  event: Exclude<MachineEvent, { kind: 'return' }>,
  end: MachineEvent | undefined,
  rootName: TimelineOptions['rootName'],
): { text: string; fold: string } {
  switch (event.kind) {
    case 'phase':
      return { text: `phase ${event.name}`, fold: '' }
    case 'message':
      return { text: `${event.source} says: ${event.text}`, fold: '' }
    case 'cr3-write':
      return {
        text: `cpu ${event.cpu}: CR3 ${[event.from, event.to].map((root) => rootName(event.era, root) ?? short(root)).join(' → ')}`,
        fold: 'CR3 write',
      }
    case 'cr4-write':
      return {
        text: `cpu ${event.cpu}: CR4 ${cr4Text(event.from)} → ${cr4Text(event.to)}`,
        fold: 'CR4 write',
      }
    case 'invlpg':
      return { text: `cpu ${event.cpu}: INVLPG ${short(event.address)}`, fold: 'INVLPG' }
    case 'invpcid':
      return {
        text: `cpu ${event.cpu}: INVPCID type ${event.type}, context ${event.pcid}`,
        fold: 'INVPCID',
      }
    case 'shootdown':
      return {
        text: `cpu ${event.cpu}: TLB shootdown to cpu ${event.targets.join(', ')}`,
        fold: 'TLB shootdown',
      }
    case 'stale-translation':
      return {
        text: `cpu ${event.cpu}: ${event.access} at ${formatAddress(event.address)} used a stale translation from the ${event.via}: ${staleText(event)}`,
        fold: '',
      }
    case 'unflushed-change':
      return {
        text: `cpu ${event.cpu}: the ${event.via} still holds ${formatAddress(event.address)}: ${staleText(event)}`,
        fold: '',
      }
    case 'call': {
      const status = end?.kind === 'return' ? efiStatusName(end.rax) : undefined
      const result = status === undefined ? 'it never returned' : status
      return {
        text: `cpu ${event.cpu}: call ${event.name} (${event.image}) at ${formatAddress(event.rip)} → ${result}`,
        fold: status === 'EFI_SUCCESS' && !TURNING_POINTS.has(event.name) ? event.name : '',
      }
    }
    case 'exception':
      return { text: `cpu ${event.cpu}: ${event.mnemonic} ${event.message}`, fold: '' }
    case 'interrupt':
      return {
        text: `cpu ${event.cpu}: vector ${event.vector} delivered to ${formatAddress(event.handler)}`,
        fold: '',
      }
    case 'triple-fault':
      return { text: `cpu ${event.cpu}: triple fault at vector ${event.vector}`, fold: '' }
    case 'reset':
      break
  }
  return { text: `reset: ${short(event.value)} to port ${short(event.port)}`, fold: '' }
}

function staleText({ held, now, changedBy }: StaleTranslation): string {
  const who = changedBy === undefined ? 'another root was loaded' : `changed by ${changedBy}`
  return `${translationText(held)}, now ${translationText(now)} (${who}, never flushed)`
}

function translationText(translation: TranslationNow): string {
  if (translation.status !== 'mapped') return translation.status.replace('-', ' ')
  const { frame, writable, user, executable } = translation
  const rights = `${user ? 'user' : 'supervisor'} r${writable ? 'w' : '-'}${executable ? 'x' : '-'}`
  return `frame ${short(frame)} ${rights}`
}

/** Calls of firmware to itself and what they do, unless something ended there. */
function dropNested(items: readonly Item[]): Item[] {
  return items.filter(({ depth, kind }) => depth === 0 || kind === 'exception' || kind === 'reset')
}

/** Stretches of successful calls, with the switches around them, become one line each. */
function fold(items: readonly Item[]): Item[] {
  const folded: Item[] = []
  let stretch: Item[] = []
  const flush = (): void => {
    const isAlike = stretch.every((item) => item.fold === stretch[0]?.fold)
    const shortest = isAlike ? SHORTEST_FOLD.alike : SHORTEST_FOLD.mixed
    if (stretch.length < shortest) folded.push(...stretch)
    else folded.push(summary(stretch))
    stretch = []
  }
  for (const item of items) {
    const last = stretch.at(-1)
    // What two CPUs do in turn is told in turn.
    if (item.fold === '' || last?.era !== item.era || last.cpu !== item.cpu) flush()
    if (item.fold === '') folded.push(item)
    else stretch.push(item)
  }
  flush()
  return folded
}

function summary(stretch: readonly Item[]): Item {
  const calls = countFolds(stretch.filter(({ kind }) => kind === 'call'))
  const others = countFolds(stretch.filter(({ kind }) => kind !== 'call'))
  const parts = [...others].map(([what, count]) =>
    what === 'INVLPG' ? `${count} INVLPG` : plural(count, what),
  )
  if (calls.size > 0) {
    const names = [...calls].map(([name, count]) => (count === 1 ? name : `${name} ×${count}`))
    parts.unshift(`${names.join(', ')} → EFI_SUCCESS`)
  }
  return { ...stretch[0]!, text: `… ${parts.join('; ')} (--all shows each)`, fold: '' }
}

function countFolds(items: readonly Item[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const item of items) counts.set(item.fold, (counts.get(item.fold) ?? 0) + 1)
  return counts
}

function cr4Text(value: number): string {
  const names = Object.entries(Cr4).filter(([, bit]) => (value & bit) !== 0)
  return names.length === 0 ? '0' : names.map(([name]) => name).join('+')
}

function short(value: number | bigint): string {
  return `0x${value.toString(16)}`
}
