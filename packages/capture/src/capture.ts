import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pagingMode, PhysicalMemory } from '@trapdoor/core'
import type { PageRun, Recording, SnapshotContents, TablePage, UsedFile } from '@trapdoor/snapshot'
import { ARCHITECTURES, decodeMemoryMap, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import type { HandOverRecord } from './application/record.ts'
import { bootToHandOver } from './boot.ts'
import type { ImageFile } from './firmware/firmware.ts'
import { type CapturePlan, planArguments } from './plan.ts'
import { MachineFile } from './qemu/command.ts'
import { readDevices } from './qemu/devices.ts'
import { type EmulatedMachine, type Patience, QEMU, qemuVersion } from './qemu/machine.ts'
import { parseRegisters, type PrintedRegisters } from './qemu/registers.ts'
import { readSystemTable } from './system-table.ts'
import { tablePages } from './table-pages.ts'
import { recordCalls, type RecordingSubject } from './vectors/record-calls.ts'

const PAGE = 4096
const FOUR_GIBIBYTES = 2 ** 32

/** Boots a firmware and takes down all of it. Throws a CaptureError. */
export async function captureFirmware(
  plan: CapturePlan,
  patience: Patience,
): Promise<SnapshotContents> {
  const version = await qemuVersion()
  return bootToHandOver(plan, patience, (machine, record) =>
    takeDown(machine, record, plan, version),
  )
}

async function takeDown(
  machine: EmulatedMachine,
  record: HandOverRecord,
  plan: CapturePlan,
  version: string,
): Promise<SnapshotContents> {
  const { application, firmware } = plan
  const printed = await machine.gdb.monitor('info registers')
  const registers = parseRegisters(printed)
  const map = await machine.gdb.readMemory(BigInt(application.map), record.mapSize)
  const descriptors = decodeMemoryMap(map, record.descriptorSize)
  const memory = new PhysicalMemory()
  const retained = firmwareRegions(descriptors, RETAINED_TYPES)
  const runtime = firmwareRegions(descriptors, RUNTIME_TYPES)
  for (const [start, pages] of [...runtime, ...retained]) {
    memory.write(start, await machine.readPhysical(start, pages))
  }
  const tables = readSystemTable(memory, record.systemTable, ARCHITECTURES[firmware.architecture])
  const mapPages = pagesOf(application.map, record.mapSize)
  for (const page of mapPages) memory.write(page, await machine.readPhysical(page, 1))
  const pointedAt = tables.configurationTable.entries.map(({ table }) => pageOf(Number(table)))
  const runtimePages = new Set([...runtime.flatMap(pagesOfRegion), ...mapPages, ...pointedAt])
  const retainedPages = retained.flatMap(pagesOfRegion).filter((page) => !runtimePages.has(page))
  return {
    ...tables,
    name: plan.name,
    provenance: {
      firmware: usedFile(firmware.code),
      variables: firmware.variables === undefined ? undefined : usedFile(firmware.variables),
      drivers: plan.drivers.map(usedFile),
      application: {
        name: MachineFile.Application,
        sha256: createHash('sha256').update(application.file).digest('hex'),
      },
      qemu: version,
    },
    command: [QEMU, ...planArguments(plan)],
    architecture: firmware.architecture,
    memoryMap: {
      descriptors,
      address: application.map,
      key: record.mapKey,
      descriptorSize: record.descriptorSize,
      descriptorVersion: record.descriptorVersion,
    },
    systemTable: record.systemTable,
    registers,
    msrs: record.msrs,
    ...readTables(memory, registers),
    runtimePages: runsOf(memory, [...runtimePages]),
    retainedPages: runsOf(memory, retainedPages),
    flash: await readFlash(machine, plan),
    devices: await readDevices(machine.gdb, plan.machine.board),
    // Last, as it changes what has been taken down by now.
    recording: await recordPlanned(machine, plan, {
      memoryMap: descriptors,
      descriptorSize: record.descriptorSize,
      runtimeServices: tables.runtimeServices.address,
    }),
  }
}

/** Calls the firmware where the plan says so. */
async function recordPlanned(
  machine: EmulatedMachine,
  { calls, application }: CapturePlan,
  firmware: Omit<RecordingSubject, 'architecture' | 'machine' | 'caller' | 'virtualMap'>,
): Promise<Recording | undefined> {
  if (calls === undefined) return undefined
  const { architecture, caller } = application
  const virtualMap = calls.virtualMap(firmware.memoryMap, architecture)
  return recordCalls({ ...firmware, architecture, machine, caller, virtualMap })
}

/** What a firmware keeps after the operating system has taken over. */
const RUNTIME_TYPES: ReadonlySet<number> = new Set([
  MemoryType.RuntimeServicesCode,
  MemoryType.RuntimeServicesData,
  MemoryType.ACPIReclaimMemory,
  MemoryType.ACPIMemoryNVS,
])
/** What it should not need any more, and what it has put aside for itself. */
const RETAINED_TYPES: ReadonlySet<number> = new Set([
  MemoryType.BootServicesCode,
  MemoryType.BootServicesData,
  MemoryType.ReservedMemoryType,
])

/** Address and pages of regions of memory, of some types. What is reserved above all memory is no memory: PCI configuration space, or SMRAM, which reads as ones outside of SMM. */
function firmwareRegions(
  descriptors: readonly MemoryDescriptor[],
  types: ReadonlySet<number>,
): (readonly [start: number, pages: number])[] {
  const memoryEnd = Math.max(
    ...descriptors
      .filter(({ type }) => type === MemoryType.ConventionalMemory || RUNTIME_TYPES.has(type))
      .map(({ physicalStart, numberOfPages }) => physicalStart + numberOfPages * PAGE)
      .filter((end) => end < FOUR_GIBIBYTES),
  )
  return descriptors
    .filter(
      ({ type, physicalStart }) =>
        types.has(type) && (type !== MemoryType.ReservedMemoryType || physicalStart < memoryEnd),
    )
    .map(({ physicalStart, numberOfPages }) => [physicalStart, numberOfPages])
}

function pagesOfRegion([start, pages]: readonly [number, number]): number[] {
  return Array.from({ length: pages }, (_, index) => start + index * PAGE)
}

function pagesOf(start: number, bytes: number): number[] {
  const first = pageOf(start)
  return pagesOfRegion([first, Math.ceil((start + bytes - first) / PAGE)])
}

function pageOf(address: number): number {
  return address - (address % PAGE)
}

/** The pages that are not all zero, those that follow one another in one run. */
function runsOf(memory: PhysicalMemory, pages: readonly number[]): PageRun[] {
  const runs: { address: number; pages: number }[] = []
  for (const page of pages.toSorted((left, right) => left - right)) {
    if (memory.read(page, PAGE).every((byte) => byte === 0)) continue
    const last = runs.at(-1)
    if (last !== undefined && last.address + last.pages * PAGE === page) last.pages++
    else runs.push({ address: page, pages: 1 })
  }
  return runs.map(({ address, pages: count }) => ({
    address,
    bytes: memory.read(address, count * PAGE),
  }))
}

/** The firmware's own page tables. */
function readTables(
  memory: PhysicalMemory,
  registers: PrintedRegisters,
): { readonly root: number; readonly tables: readonly TablePage[] } {
  const register = (name: string): number => Number(registers[name])
  const mode = pagingMode(register('CR0'), register('CR4'), register('EFER'))
  const root = register('CR3')
  return { root, tables: tablePages(memory, mode, root) }
}

/** The flash that holds the variables: QEMU writes what the firmware has programmed to its file at once. The image that has both code and variables begins with the variables. */
async function readFlash(
  { directory }: EmulatedMachine,
  { firmware }: CapturePlan,
): Promise<SnapshotContents['flash']> {
  const { Code, Variables } = MachineFile
  const { code, variables } = firmware
  const contents = await readFile(join(directory, variables === undefined ? Code : Variables))
  const below = variables === undefined ? 0 : code.bytes.length
  return { address: FOUR_GIBIBYTES - below - contents.length, contents }
}

function usedFile({ path, sha256, changed }: ImageFile): UsedFile {
  return { name: basename(path), sha256, ...(changed === undefined ? {} : { changed }) }
}
