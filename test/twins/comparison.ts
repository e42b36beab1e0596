import {
  CPU_MODELS,
  mappedRanges,
  PAGE_SIZE,
  pagingMode,
  phys,
  type PhysicalMemory,
  Rflags,
} from '@trapdoor/core'
import type { FirmwareSnapshot } from '@trapdoor/snapshot'
import { descriptorEnd, MemoryType } from '@trapdoor/uefi'

import type { QemuTrace } from '../traces/qemu-trace.ts'
import type { Exit } from './call-recorder.ts'
import type { Ended, Entry } from './call-state.ts'
import type { PortAccess } from './noted-ports.ts'
import type { MadeCall } from './session.ts'
import { runTwin, type TwinResult } from './twin.ts'

/** A firmware whose calls are compared. */
export interface Build {
  readonly name: string
  /** Path of the image. */
  readonly firmware: string
  readonly snapshot: FirmwareSnapshot
  /** Bytes of the flash device that holds the firmware's code. */
  readonly codeFlashBytes: number
}

/** The loader's table of the first GiBs: RAM of the machines here ends below. */
const HIGHEST_RAM = 2 ** 31
const MEBIBYTE = 2 ** 20
/** The accessed flag in 64 bits, by the bytes of an entry: QEMU sets it as it walks down, ours when an access succeeds, and the SDM allows both (Vol. 3, 4.8). Dirty flags have to agree. */
const ACCESSED = { 8: 0x20n, 4: 0x20_0000_0020n } as const
const MOST_DIFFERENCES = 8

/** Makes a call again on QEMU from the state in which the firmware was entered, and says in what the two differ. */
export async function compareWithTwin(
  { entry, exit, room }: MadeCall,
  { snapshot, codeFlashBytes }: Build,
  trace?: QemuTrace,
): Promise<readonly string[]> {
  const ramBytes = ramOf(snapshot)
  const low = entry.mode === 'compatible' ? lowPage(entry, room) : undefined
  const twins = await runTwin(
    { ...entry, rflags: entry.rflags & ~Rflags.IF, ramBytes, room: { ...room, low } },
    { board: snapshot.board, codeFlashBytes, flash: flashOf(snapshot, entry.memory) },
    trace,
  )
  const skipped = [room.code.physical, room.data.physical, room.data.physical + PAGE_SIZE]
  if (low !== undefined) skipped.push(low)
  return [
    ...endingDifferences(exit, twins),
    ...portDifferences(exit.ports, twins.ports),
    ...memoryDifferences({ entry, exit, ram: twins.ram, skipped }),
    ...flashDifferences(flashOf(snapshot, exit.memory), twins.flash),
  ]
}

/** A page behind the kernel's first that the call's tables map where it is, for code. */
function lowPage({ memory, cr0, cr3, cr4, efer }: Entry, { code }: MadeCall['room']): number {
  const behind = code.physical + PAGE_SIZE
  const { ranges } = mappedRanges(
    {
      memory,
      mode: pagingMode(cr0, cr4, efer),
      features: CPU_MODELS.nehalem,
      noExecute: true,
      root: phys(cr3 - (cr3 % PAGE_SIZE)),
    },
    { start: BigInt(behind), end: BigInt(behind + KERNEL_BYTES) },
  )
  const found = ranges.find(
    ({ start, physical, executable }) => executable && start === BigInt(physical),
  )
  if (found === undefined) throw new Error('the kernel maps none of its pages 1:1 for code')
  return Math.max(found.physical, behind)
}

/** No kernel's text is longer. */
const KERNEL_BYTES = 0x200_0000

function ramOf({ memoryMap }: FirmwareSnapshot): number {
  const ends = memoryMap
    .filter(({ type }) => type !== MemoryType.MemoryMappedIO)
    .map(descriptorEnd)
    .filter((end) => end <= HIGHEST_RAM)
  return Math.ceil(Math.max(...ends) / MEBIBYTE) * MEBIBYTE
}

/** The variable flash. */
export function flashOf({ flash }: FirmwareSnapshot, memory: PhysicalMemory): Uint8Array {
  return flash === undefined ? new Uint8Array(0) : memory.read(flash.address, flash.contents.length)
}

function endingDifferences(exit: Exit, twins: TwinResult): string[] {
  const { ended, general } = exit
  const ours = describe(ended)
  const theirs = describe(twins.ended)
  if (ours !== theirs) return [`here: ${ours}; on QEMU: ${theirs}`]
  const pairs: (readonly [string, number | bigint, number | bigint | undefined])[] = [
    ...general.map((value, at) => [`register ${at}`, value, twins.general?.[at]] as const),
    ['RFLAGS', exit.rflags & COMPARED_FLAGS, twins.rflags && twins.rflags & COMPARED_FLAGS],
    ['FCW', exit.vectors.fcw, twins.vectors?.fcw],
    ['MXCSR', exit.vectors.mxcsr, twins.vectors?.mxcsr],
    ...exit.vectors.xmm.map(
      (value, word) =>
        [`XMM${word >> 2}, word ${word & 3}`, value, twins.vectors?.xmm[word]] as const,
    ),
  ]
  return pairs.flatMap(([name, here, there]) =>
    there === undefined || here === there
      ? []
      : [`${name}: ${hex(here)} here, ${hex(there)} on QEMU`],
  )
}

/** Not IF, which is off on QEMU, and not RF, which an exception sets as it is delivered (SDM Vol. 3, 17.3.1.1). */
const COMPARED_FLAGS = ~(Rflags.IF | Rflags.RF)

/** An ending in words: two that are the same have the same. */
export function describe(ended: Ended): string {
  if (ended.kind === 'reset') return 'reset'
  if (ended.kind === 'returned') return `returned ${hex(ended.rax)}`
  const { vector, errorCode, cr2, rip } = ended
  const where = vector === PAGE_FAULT ? ` at ${hex(cr2)}` : ''
  return `vector ${vector} (${hex(errorCode)})${where}, RIP ${hex(rip)}`
}

const PAGE_FAULT = 14

function portDifferences(ours: readonly PortAccess[], theirs: readonly PortAccess[]): string[] {
  const [mine, others] = [ours, theirs].map((accesses) => accesses.map(describeAccess))
  const at = Array.from({ length: Math.max(ours.length, theirs.length) }).findIndex(
    (_, index) => mine![index] !== others![index],
  )
  if (at < 0) return []
  const [here, there] = [mine![at], others![at]].map((each) => each ?? 'nothing more')
  return [`access ${at + 1} to ports: ${here} here, ${there} on QEMU`]
}

function describeAccess({ kind, address, size, value }: PortAccess): string {
  const bits = size === 1 ? '' : ` (${size * 8} bits)`
  return `${kind} of ${hex(value)} ${kind === 'read' ? 'from' : 'to'} port ${hex(address)}${bits}`
}

function memoryDifferences(run: {
  readonly entry: Entry
  readonly exit: Exit
  readonly ram: Uint8Array
  /** Pages of the twin's own. */
  readonly skipped: readonly number[]
}): string[] {
  const { entry, exit, ram, skipped } = run
  const { entryBytes } = pagingMode(entry.cr0, entry.cr4, entry.efer)
  let tables: ReadonlySet<number> | undefined
  const differences: string[] = []
  for (const frame of differingFrames(exit.memory, ram)) {
    const at = frame * PAGE_SIZE
    if (skipped.includes(at)) continue
    tables ??= tableFrames(entry)
    const ours = words(exit.memory.read(at, PAGE_SIZE))
    const theirs = words(ram.slice(at, at + PAGE_SIZE))
    for (const [index, value] of ours.entries()) {
      const address = at + index * 8
      if (value === theirs[index] || isReturnSlot(address, entry)) continue
      if (exit.ended.kind === 'reset' && isOnStack(address, entry)) continue
      const flags = tables.has(frame) ? ACCESSED[entryBytes] : 0n
      if ((value | flags) === (theirs[index]! | flags)) continue
      differences.push(`${hex(address)}: ${hex(value)} here, ${hex(theirs[index]!)} on QEMU`)
      if (differences.length === MOST_DIFFERENCES) return differences
    }
  }
  return differences
}

/** Whether a quadword holds the return address, or the flags that the twin pushes to where it was. */
function isReturnSlot(address: number, { returnSlot, mode }: Entry): boolean {
  if (mode === 'long') return address === returnSlot
  const below = mode === 'compatible' ? 4 : 0
  return address < returnSlot + 4 && address + 8 > returnSlot - below
}

/** Whether an address is on the stack of the call. After the write that resets or switches off the machine QEMU goes on for some instructions, until it comes to it. */
function isOnStack(address: number, { returnSlot }: Entry): boolean {
  return address < returnSlot && address >= returnSlot - STACK_BYTES
}

/** No call takes more of its stack. */
const STACK_BYTES = 4096

function* differingFrames(memory: PhysicalMemory, ram: Uint8Array): Generator<number> {
  for (let at = 0; at < ram.length; at += MEBIBYTE) {
    const ours = memory.read(at, MEBIBYTE)
    if (Buffer.compare(ours, ram.subarray(at, at + MEBIBYTE)) === 0) continue
    for (let page = 0; page < MEBIBYTE; page += PAGE_SIZE) {
      const theirs = ram.subarray(at + page, at + page + PAGE_SIZE)
      const isSame = Buffer.compare(ours.subarray(page, page + PAGE_SIZE), theirs) === 0
      if (!isSame) yield (at + page) / PAGE_SIZE
    }
  }
}

/** Frames of page tables that the call's CR3 leads to. */
function tableFrames({ memory, cr0, cr3, cr4, efer }: Entry): Set<number> {
  const { levels, entryBytes, rootInRegisters } = pagingMode(cr0, cr4, efer)
  const frames = new Set<number>()
  const entriesOf = (frame: number, depth: number): bigint[] => {
    // Four entries, which need not be at the begin of a page.
    if (rootInRegisters && depth === 0) return [...words(memory.read(cr3 - (cr3 % 32), 32))]
    const bytes = memory.read(frame * PAGE_SIZE, PAGE_SIZE)
    return entryBytes === 8
      ? [...words(bytes)]
      : Array.from(new Uint32Array(bytes.buffer), (entry) => BigInt(entry))
  }
  const visit = (frame: number, depth: number): void => {
    if (frames.has(frame)) return
    frames.add(frame)
    if (depth === levels.length - 1) return
    for (const entry of entriesOf(frame, depth)) {
      const isTable = (entry & PRESENT) !== 0n && (entry & LARGE) === 0n
      if (isTable) visit(Number((entry & ADDRESS_BITS) >> 12n), depth + 1)
    }
  }
  if (levels.length > 0) visit(Math.floor(cr3 / PAGE_SIZE), 0)
  return frames
}

const PRESENT = 1n
const LARGE = 0x80n
const ADDRESS_BITS = 0xf_ffff_ffff_f000n

function flashDifferences(ours: Uint8Array, theirs: Uint8Array): string[] {
  if (Buffer.compare(ours, theirs) === 0) return []
  const at = ours.findIndex((byte, index) => byte !== theirs[index])
  return [`flash at ${hex(at)}: ${hex(ours[at]!)} here, ${hex(theirs[at]!)} on QEMU`]
}

function words(bytes: Uint8Array): BigUint64Array {
  return new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8)
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}
