import { PAGE_SIZE, pagingMode, type PhysicalMemory, Rflags } from '@trapdoor/core'
import { Interpreter } from '@trapdoor/cpu'
import { createFirmware } from '@trapdoor/firmware'
import {
  bootKernel,
  createKernelHooks,
  EfiServices,
  type ArgumentPlace,
  type Kernel,
  layoutOf,
  loadKernel,
  type PreparedCall,
  type StrategyChoice,
} from '@trapdoor/kernel'
import type { FirmwareSnapshot } from '@trapdoor/snapshot'
import { descriptorEnd, MemoryType } from '@trapdoor/uefi'

import { CallRecorder, type Exit } from './call-recorder.ts'
import type { Ended, Entry } from './call-state.ts'
import { type CallState, runTwin, type TwinMachine, type TwinResult } from './twin.ts'

/** A call of a real firmware under a strategy. */
export interface RealCall {
  readonly snapshot: FirmwareSnapshot
  /** Bytes of the flash device that holds the firmware's code. */
  readonly codeFlashBytes: number
  readonly strategy: StrategyChoice
  /** Where arguments are; default the stack. */
  readonly place?: ArgumentPlace
  /** The call; left out, it is SetVirtualAddressMap, which the kernel makes when it boots. */
  readonly prepare?: (services: EfiServices) => PreparedCall<unknown>
}

/** How a call ended here and there, and in what the two differ. */
export interface Comparison {
  readonly ours: Exit
  readonly twins: TwinResult
  readonly differences: readonly string[]
}

/** The loader's table of the first GiBs: RAM of the machines here ends below. */
const HIGHEST_RAM = 2 ** 31
const MEBIBYTE = 2 ** 20
/** Accessed and dirty flags: QEMU sets the former as it walks down, ours when an access succeeds, and the SDM allows both (Vol. 3, 4.8). */
const ACCESSED_AND_DIRTY = 0x60
const MOST_DIFFERENCES = 8

/** Boots a kernel on the firmware, makes one call, and makes it again on QEMU from the state in which the firmware was entered. Undefined where the firmware was never entered. */
export async function compareWithTwin(call: RealCall): Promise<Comparison | undefined> {
  const { snapshot, strategy } = call
  const recorder = new CallRecorder(new Interpreter())
  const firmware = createFirmware({ name: snapshot.name, snapshot, executor: recorder })
  if (call.prepare === undefined) recorder.arm()
  const kernel = bootKernel(loadKernel(firmware.powerOn(), ''), {
    name: 'first kernel',
    profile: { layout: layoutOf(strategy), strategies: [strategy] },
    hooks: createKernelHooks(),
  })
  const room = roomOf(kernel)
  if (call.prepare !== undefined) {
    const services = new EfiServices(kernel, kernel.bootCpu, call.place ?? 'stack')
    const prepared = call.prepare(services)
    recorder.arm()
    try {
      prepared.run()
    } catch (error) {
      if (recorder.exit?.ended.kind !== 'exception') throw error
    }
  }
  const { entry, exit } = recorder
  if (entry === undefined || exit === undefined) return undefined
  const ramBytes = ramOf(snapshot)
  const twins = await runTwin(
    { ...entry, rflags: entry.rflags & ~Rflags.IF, ramBytes, room },
    { ...machineOf(call), flash: flashOf(snapshot, entry.memory) },
  )
  return {
    ours: exit,
    twins,
    differences: [
      ...endingDifferences(exit, twins),
      ...memoryDifferences({ entry, exit, twins, ramBytes, room }),
      ...flashDifferences(snapshot, exit, twins),
    ],
  }
}

/** A page of the kernel's text and two of its data. */
function roomOf({ image }: Kernel): CallState['room'] {
  const data = image.staticPages(2)
  return {
    code: { virtual: image.start, physical: image.base },
    data: { virtual: image.virtualAddress(data), physical: data },
  }
}

function ramOf({ memoryMap }: FirmwareSnapshot): number {
  const ends = memoryMap
    .filter(({ type }) => type !== MemoryType.MemoryMappedIO)
    .map(descriptorEnd)
    .filter((end) => end <= HIGHEST_RAM)
  return Math.ceil(Math.max(...ends) / MEBIBYTE) * MEBIBYTE
}

function machineOf({ snapshot, codeFlashBytes }: RealCall): Omit<TwinMachine, 'flash'> {
  return { chipset: snapshot.board, codeFlashBytes, rtc: clockOf(snapshot) }
}

/** What the clock of the captured machine said, which it still says here: a clock of QEMU starts with BCD and 24 hours. */
function clockOf({ name, cmos }: FirmwareSnapshot): string {
  if (cmos === undefined) throw new Error(`the snapshot ${name} has no clock`)
  const digits = (register: number): string => cmos[register]!.toString(16).padStart(2, '0')
  const [century, year, month, day] = [0x32, 9, 8, 7].map(digits)
  return `${century}${year}-${month}-${day}T${[4, 2, 0].map(digits).join(':')}`
}

function flashOf({ flash }: FirmwareSnapshot, memory: PhysicalMemory): Uint8Array {
  return flash === undefined ? new Uint8Array(0) : memory.read(flash.address, flash.contents.length)
}

function endingDifferences({ ended, general }: Exit, twins: TwinResult): string[] {
  const ours = describe(ended)
  const theirs = describe(twins.ended)
  if (ours !== theirs) return [`here: ${ours}; on QEMU: ${theirs}`]
  return general.flatMap((value, register) =>
    value === twins.general[register]
      ? []
      : [`register ${register}: ${hex(value)} here, ${hex(twins.general[register]!)} on QEMU`],
  )
}

/** An ending in words: two that are the same have the same. */
export function describe(ended: Ended): string {
  if (ended.kind === 'reset') return 'reset'
  if (ended.kind === 'returned') return `returned ${hex(ended.rax)}`
  const { vector, errorCode, cr2, rip } = ended
  const where = vector === PAGE_FAULT ? ` at ${hex(cr2)}` : ''
  return `vector ${vector} (${hex(errorCode)})${where}, RIP ${hex(rip)}`
}

const PAGE_FAULT = 14

function memoryDifferences(run: {
  readonly entry: Entry
  readonly exit: Exit
  readonly twins: TwinResult
  readonly ramBytes: number
  readonly room: CallState['room']
}): string[] {
  const { entry, exit, twins, ramBytes, room } = run
  const tables = tableFrames(entry)
  const skipped = new Set([
    room.code.physical / PAGE_SIZE,
    room.data.physical / PAGE_SIZE,
    room.data.physical / PAGE_SIZE + 1,
  ])
  const differences: string[] = []
  for (const frame of differingFrames(exit.memory, twins.ram, ramBytes)) {
    if (skipped.has(frame)) continue
    const at = frame * PAGE_SIZE
    const ours = words(exit.memory.read(at, PAGE_SIZE))
    const theirs = words(twins.ram.slice(at, at + PAGE_SIZE))
    for (const [index, value] of ours.entries()) {
      const address = at + index * 8
      if (value === theirs[index] || address === entry.returnSlot) continue
      const flags = tables.has(frame) ? BigInt(ACCESSED_AND_DIRTY) : 0n
      if ((value | flags) === (theirs[index]! | flags)) continue
      differences.push(`${hex(address)}: ${hex(value)} here, ${hex(theirs[index]!)} on QEMU`)
      if (differences.length === MOST_DIFFERENCES) return differences
    }
  }
  return differences
}

function* differingFrames(
  memory: PhysicalMemory,
  ram: Uint8Array,
  ramBytes: number,
): Generator<number> {
  for (let at = 0; at < ramBytes; at += MEBIBYTE) {
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
  const { levels } = pagingMode(cr0, cr4, efer)
  const frames = new Set<number>()
  const visit = (frame: number, depth: number): void => {
    if (frames.has(frame)) return
    frames.add(frame)
    if (depth === levels.length - 1) return
    for (const entry of words(memory.read(frame * PAGE_SIZE, PAGE_SIZE))) {
      const isTable = (entry & PRESENT) !== 0n && (entry & LARGE) === 0n
      if (isTable) visit(Number((entry & ADDRESS_BITS) >> 12n), depth + 1)
    }
  }
  visit(Math.floor(cr3 / PAGE_SIZE), 0)
  return frames
}

const PRESENT = 1n
const LARGE = 0x80n
const ADDRESS_BITS = 0xf_ffff_ffff_f000n

function flashDifferences(
  snapshot: FirmwareSnapshot,
  { memory }: Exit,
  twins: TwinResult,
): string[] {
  const ours = flashOf(snapshot, memory)
  const at = ours.findIndex((byte, index) => byte !== twins.flash[index])
  return at < 0
    ? []
    : [`flash at ${hex(at)}: ${hex(ours[at]!)} here, ${hex(twins.flash[at]!)} on QEMU`]
}

function words(bytes: Uint8Array): BigUint64Array {
  return new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8)
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}
