import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Board } from '@trapdoor/core'
import { type Architecture, ARCHITECTURES, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { z } from 'zod'
import type { CpuState, FirmwareSnapshot, FlashImage, PageRun } from '../snapshot.ts'
import { findImages } from '../images.ts'
import { PhysicalPages } from '../physical-pages.ts'
import { hexBigint, hexBytes, hexNumber, ObservedFolder } from './folder.ts'
import { SNAPSHOT_FORMAT_VERSION } from '../written/contents.ts'
import { forgetAccessedPdptes } from './pdptes.ts'
import { observedRegisters } from './registers.ts'

const PAGE = 4096
/** EFI_SYSTEM_TABLE_SIGNATURE. */
const SIGNATURE = 'IBI SYST'
const FOUR_GIBIBYTES = 2 ** 32
const LARGEST_FLASH = 0x100_0000
/** OVMF of 2 MiB has 128 KiB of variables, OVMF of 4 MiB has 528 KiB. */
const SMALL_STORE = 0x4_0000

const pageCount = z.number().int().min(0)
const descriptor = z
  .object({
    type: z.number().int().min(0),
    phys: hexNumber,
    virt: hexBigint,
    pages: pageCount,
    attr: hexBigint,
  })
  .transform(({ type, phys, virt, attr, ...rest }): MemoryDescriptor => ({
    type,
    physicalStart: phys,
    virtualStart: virt,
    numberOfPages: rest.pages,
    attribute: attr,
  }))
/** A file of pages, and where they belong: pairs of an address and a number of pages. */
interface Dump {
  readonly file: string
  readonly runs: readonly (readonly [address: number, pages: number])[]
  /** Of the unpacked bytes. */
  readonly sha256?: string | undefined
}
const dump: z.ZodType<Dump> = z.object({
  file: z.string(),
  runs: z.array(z.tuple([hexNumber, pageCount])),
  sha256: z.string().optional(),
})

/** What is read of snapshot.json. A recording that was made by hand has less in it than one of `trapdoor capture`. */
interface ObservedSnapshotJson {
  /** Of the format; recordings that were made by hand have none. */
  readonly format_version?: typeof SNAPSHOT_FORMAT_VERSION | undefined
  /** QEMU's command, quoted for a shell. */
  readonly qemu_cmd: string
  readonly architecture?: Architecture['name'] | undefined
  readonly systab_pa: number
  readonly memmap: readonly MemoryDescriptor[]
  readonly stages: Readonly<Record<string, CpuState>>
  readonly flash?: { readonly base: number; readonly bytes?: number | undefined } | undefined
  readonly devices?: { readonly cmos: Uint8Array } | undefined
  readonly files: {
    /** Runtime and ACPI memory, and tables. */
    readonly rt: Dump
    /** The rest of what is the firmware's. The file may have been left out. */
    readonly fw?: Dump | undefined
  }
}

export const observedSnapshot: z.ZodType<ObservedSnapshotJson> = z.object({
  format_version: z
    .literal(SNAPSHOT_FORMAT_VERSION, `format ${SNAPSHOT_FORMAT_VERSION}, which this version reads`)
    .optional(),
  qemu_cmd: z.string(),
  architecture: z.enum(['x64', 'ia32']).optional(),
  systab_pa: hexNumber,
  memmap: z.array(descriptor).min(1),
  stages: z.record(z.string(), observedRegisters),
  flash: z.object({ base: hexNumber, bytes: z.number().int().min(0).optional() }).optional(),
  devices: z.object({ cmos: hexBytes }).optional(),
  files: z.object({ rt: dump, fw: dump.optional() }),
})

const tablePages = z.object({
  cr3: hexNumber,
  pages: z.array(z.tuple([hexNumber, z.number().int(), hexBigint])).min(1),
})

/** The stage in which ExitBootServices is about to return to the loader, on the firmware's own page tables. */
const HAND_OFF_STAGE = 'A-ebs'

/**
 * Reads a folder with `snapshot.json`, `rt.pages.gz`, `pt-A.bin.gz` with `pt-A.json`, and `flash-handoff.fd.gz`: an OVMF that was stopped in QEMU. Throws a SnapshotError that names file and place.
 */
export function readObservedSnapshot(path: string): FirmwareSnapshot {
  const folder = new ObservedFolder(path)
  const json = folder.json('snapshot.json', observedSnapshot)
  const cpu = json.stages[HAND_OFF_STAGE]
  if (cpu === undefined) {
    throw folder.bad('snapshot.json', `registers of stage ${HAND_OFF_STAGE}`, ['stages'], 'none')
  }
  // The command is as a shell would take it.
  const command = json.qemu_cmd.replaceAll('\\', '')
  const { memmap: memoryMap, systab_pa: systemTable } = json
  const architecture = ARCHITECTURES[json.architecture ?? 'x64']
  const smm = /\s-(?:M|machine)\s+\S*smm=on/.test(command)
  const { rt, fw } = json.files
  const pages = [
    ...readRuns(folder, rt),
    ...(fw !== undefined && folder.has(fw.file) ? readRuns(folder, fw) : []),
    ...forgetAccessedPdptes(readTablePages(folder, 'A').pages, cpu),
  ]
  const memory = new PhysicalPages(pages)
  const signature = Buffer.from(memory.read(systemTable, SIGNATURE.length)).toString('latin1')
  if (signature !== SIGNATURE) {
    throw folder.bad('snapshot.json', `the address of a table that begins with "${SIGNATURE}"`, [
      'systab_pa',
    ])
  }
  return {
    name: basename(path),
    origin: command,
    board: boardOf(command),
    architecture: architecture.name,
    la57: !/\s-cpu\s+\S*la57=off/.test(command),
    smm,
    memoryMap,
    systemTable,
    pages,
    cpu,
    cmos: json.devices?.cmos,
    flash: readFlash(folder, json),
    images: findImages(memory, { architecture, memoryMap, systemTable, smm }),
  }
}

const builtFor = z.object({ architecture: z.enum(['x64', 'ia32']).default('x64') })

/** What the firmware of a folder is built for; undefined where there is no snapshot. Throws a SnapshotError where there is a damaged one. */
export function snapshotArchitecture(path: string): Architecture['name'] | undefined {
  if (!existsSync(join(path, 'snapshot.json'))) return undefined
  return new ObservedFolder(path).json('snapshot.json', builtFor).architecture
}

/** The pages that hold page tables at a stage, and the root. */
export function readTablePages(
  folder: ObservedFolder,
  stage: string,
): { readonly root: number; readonly pages: PageRun[] } {
  const list = `pt-${stage}.json`
  const { cr3, pages: entries } = folder.json(list, tablePages)
  const bytes = folder.bytes(`pt-${stage}.bin.gz`)
  if (bytes.length !== entries.length * PAGE) {
    throw folder.bad(
      list,
      `the ${bytes.length / PAGE} pages that are in pt-${stage}.bin.gz`,
      ['pages'],
      String(entries.length),
    )
  }
  return {
    root: cr3,
    pages: entries.map(([address], index) => ({
      address,
      bytes: bytes.subarray(index * PAGE, (index + 1) * PAGE),
    })),
  }
}

function readRuns(folder: ObservedFolder, { file, runs, sha256 }: Dump): PageRun[] {
  const bytes = folder.bytes(file)
  const expected = runs.reduce((sum, [, count]) => sum + count, 0) * PAGE
  if (bytes.length !== expected) {
    throw folder.damaged(file, `${expected} bytes, for the runs in snapshot.json`, bytes.length)
  }
  const digest = sha256 === undefined ? undefined : createHash('sha256').update(bytes).digest('hex')
  if (digest !== sha256) {
    throw folder.damaged(file, `the SHA-256 of snapshot.json, ${sha256}`, `${digest}`)
  }
  let at = 0
  return runs.map(([address, count]) => {
    const start = at
    at += count * PAGE
    return { address, bytes: bytes.subarray(start, at) }
  })
}

function boardOf(command: string): Board {
  return /\s-(?:M|machine)\s+pc\b/.test(command) ? 'pc' : 'q35'
}

/**
 * The flash with the variables. Where nobody has written down where it lies, it is where the region begins that FvbServicesRuntimeDxe has marked for runtime: OVMF's image is one, variables first
 * (OvmfPkg/OvmfPkgDefines.fdf.inc). With SMM the map does not show it; its length tells whether the image that ends at 4 GiB has two or four megabytes.
 */
function readFlash(folder: ObservedFolder, json: ObservedSnapshotJson): FlashImage | undefined {
  const file = 'flash-handoff.fd.gz'
  if (!folder.has(file)) return undefined
  const contents = folder.bytes(file)
  const { bytes = Math.ceil(contents.length / PAGE) * PAGE } = json.flash ?? {}
  if (contents.length !== bytes) throw folder.damaged(file, `${bytes} bytes`, contents.length)
  const marked = json.memmap.find(
    ({ type, physicalStart }) =>
      type === MemoryType.MemoryMappedIO && physicalStart >= FOUR_GIBIBYTES - LARGEST_FLASH,
  )
  const image = contents.length > SMALL_STORE ? 0x40_0000 : 0x20_0000
  const address = json.flash?.base ?? marked?.physicalStart ?? FOUR_GIBIBYTES - image
  return { address, contents }
}
