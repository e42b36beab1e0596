import { basename } from 'node:path'
import type { Board } from '@trapdoor/core'
import { type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { z } from 'zod'
import type { CpuState, FirmwareSnapshot, FlashImage, PageRun } from '../snapshot.ts'
import { hexBigint, hexNumber, ObservedFolder } from './folder.ts'
import { observedRegisters } from './registers.ts'

const PAGE = 4096
const FOUR_GIBIBYTES = 2 ** 32

const pages = z.number().int().min(0)
const descriptor = z
  .object({
    type: z.number().int().min(0),
    phys: hexNumber,
    virt: hexBigint,
    pages,
    attr: hexBigint,
  })
  .transform(({ type, phys, virt, attr, ...rest }): MemoryDescriptor => ({
    type,
    physicalStart: phys,
    virtualStart: virt,
    numberOfPages: rest.pages,
    attribute: attr,
  }))
const dump = z.object({ file: z.string(), runs: z.array(z.tuple([hexNumber, pages])) })

/** What is read of snapshot.json. */
interface ObservedSnapshotJson {
  /** QEMU's command, quoted for a shell. */
  readonly qemu_cmd: string
  readonly systab_pa: number
  readonly memmap: readonly MemoryDescriptor[]
  readonly stages: Readonly<Record<string, CpuState>>
  readonly files: {
    readonly rt: { readonly file: string; readonly runs: readonly [number, number][] }
  }
}

export const observedSnapshot: z.ZodType<ObservedSnapshotJson> = z.object({
  qemu_cmd: z.string(),
  systab_pa: hexNumber,
  memmap: z.array(descriptor).min(1),
  stages: z.record(z.string(), observedRegisters),
  files: z.object({ rt: dump }),
})

const tablePages = z.object({
  cr3: hexNumber,
  pages: z.array(z.tuple([hexNumber, z.number().int(), hexBigint])).min(1),
})

/** The stage in which ExitBootServices is about to return to the loader, on the firmware's own page tables. */
const HAND_OFF_STAGE = 'A-ebs'

/**
 * Reads a folder with `snapshot.json`, `rt.pages.gz`, `pt-A.bin.gz` with `pt-A.json`, and `flash-handoff.fd.gz`: a 64-bit OVMF that was stopped in QEMU. Throws a SnapshotError that names file and place.
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
  const memoryMap = json.memmap
  return {
    name: basename(path),
    origin: command,
    board: boardOf(command),
    architecture: 'x64',
    la57: !/-cpu\s+\S*la57=off/.test(command),
    smm: /\s-M\s+\S*smm=on/.test(command),
    memoryMap,
    systemTable: json.systab_pa,
    pages: [...readRuns(folder, json), ...readTablePages(folder, 'A').pages],
    cpu,
    flash: readFlash(folder, memoryMap),
    images: [],
  }
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

function readRuns(folder: ObservedFolder, json: ObservedSnapshotJson): PageRun[] {
  const { file, runs } = json.files.rt
  const bytes = folder.bytes(file)
  const expected = runs.reduce((sum, [, count]) => sum + count, 0) * PAGE
  if (bytes.length !== expected) {
    throw folder.bad(
      'snapshot.json',
      `runs of the ${bytes.length / PAGE} pages that are in ${file}`,
      ['files', 'rt', 'runs'],
      `${expected / PAGE} pages`,
    )
  }
  let at = 0
  return runs.map(([address, count]) => {
    const start = at
    at += count * PAGE
    return { address, bytes: bytes.subarray(start, at) }
  })
}

function boardOf(command: string): Board {
  return /\s-M\s+(?:pc|pc-i440fx)/.test(command) ? 'pc' : 'q35'
}

/**
 * The flash with the variables lies where the region begins that FvbServicesRuntimeDxe has marked for runtime: OVMF's image is one, variables first (OvmfPkg/OvmfPkgDefines.fdf.inc). With SMM the map
 * does not show it; its length tells whether the image that ends at 4 GiB has two or four megabytes.
 */
function readFlash(
  folder: ObservedFolder,
  memoryMap: readonly MemoryDescriptor[],
): FlashImage | undefined {
  if (!folder.has('flash-handoff.fd.gz')) return undefined
  const contents = folder.bytes('flash-handoff.fd.gz')
  const marked = memoryMap.find(
    ({ type, physicalStart }) =>
      type === MemoryType.MemoryMappedIO && physicalStart >= FOUR_GIBIBYTES - 0x100_0000,
  )
  const image = contents.length > 0x4_0000 ? 0x40_0000 : 0x20_0000
  return { address: marked?.physicalStart ?? FOUR_GIBIBYTES - image, contents }
}
