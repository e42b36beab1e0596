import { createHash, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { type MemoryDescriptor, MemoryType, memoryTypeName } from '@trapdoor/uefi'
import { SnapshotError } from '../error.ts'
import type { PageRun } from '../snapshot.ts'
import { type Recording, SNAPSHOT_FORMAT_VERSION, type SnapshotContents } from './contents.ts'
import { hex, hexBytes } from './hex.ts'
import { recordingDocument } from './recording-document.ts'

const PAGE = 4096
const STAGE = 'A-ebs'
/** The caller's page tables are in use, and nothing has been called yet. */
const CALL_STAGE = 'D-svam-call'
const PAGES_FORMAT =
  'gzip of concatenated 4KiB pages; runs=[[pa,npages],...] in file order; pages absent are zero'

const pack = promisify(gzip)

/** Writes a snapshot into a folder that is new or empty, so that nobody ever sees half of it. Throws SNAPSHOT_FOLDER_THERE. */
export async function writeSnapshot(folder: string, contents: SnapshotContents): Promise<void> {
  await writeFolder(folder, await snapshotFiles(contents))
}

/**
 * Whether {@link writeSnapshot} could write into a folder, for whoever has a long way to go to a snapshot. Leaves nothing behind. Throws SNAPSHOT_FOLDER_THERE where the name is taken,
 * SNAPSHOT_UNWRITABLE.
 */
export async function checkSnapshotFolder(folder: string): Promise<void> {
  if (existsSync(folder) && !(await isEmptyFolder(folder))) throw refusal(folder)
  try {
    let above = dirname(folder)
    while (!existsSync(above)) above = dirname(above)
    const draft = join(above, draftName(folder))
    await mkdir(draft)
    await rmdir(draft)
  } catch (cause) {
    throw refusal(folder, cause)
  }
}

async function isEmptyFolder(path: string): Promise<boolean> {
  const isFolder = (await stat(path)).isDirectory()
  return isFolder && (await readdir(path)).length === 0
}

/** A folder of files, all or nothing: a neighbour is filled first, which then takes the name. Throws SNAPSHOT_FOLDER_THERE where the name is taken, SNAPSHOT_UNWRITABLE. */
async function writeFolder(
  folder: string,
  files: ReadonlyMap<string, Uint8Array | string>,
): Promise<void> {
  const draft = join(dirname(folder), draftName(folder))
  try {
    await makeFolder(dirname(folder))
    await mkdir(draft)
    for (const [name, bytes] of files) await writeFile(join(draft, name), bytes)
    await rename(draft, folder)
  } catch (cause) {
    await rm(draft, { recursive: true, force: true }).catch(() => {})
    throw refusal(folder, cause)
  }
}

function draftName(folder: string): string {
  return `.${basename(folder)}.${randomUUID()}.tmp`
}

function refusal(folder: string, cause?: unknown): SnapshotError {
  const isTaken = existsSync(folder)
  return new SnapshotError(isTaken ? 'SNAPSHOT_FOLDER_THERE' : 'SNAPSHOT_UNWRITABLE', {
    expected: 'a folder that is new or empty and can be written',
    found: isTaken ? 'something in its place' : String(cause),
    ...(isTaken ? { hint: 'remove it first, or name another' } : {}),
    file: folder,
    cause,
  })
}

/** Makes a folder and those above it. Node's own recursive mkdir never returns where a file system such as /proc denies that a folder can be. */
async function makeFolder(folder: string): Promise<void> {
  if (existsSync(folder)) return
  await makeFolder(dirname(folder))
  try {
    await mkdir(folder)
  } catch (error) {
    // Somebody else may have been faster.
    if (!existsSync(folder)) throw error
  }
}

/** The files of a snapshot by their names. The same contents give the same bytes. */
async function snapshotFiles(
  contents: SnapshotContents,
): Promise<Map<string, Uint8Array | string>> {
  const runtime = await packRuns('rt', contents.runtimePages)
  const retained = await packRuns('fw', contents.retainedPages)
  const { recording } = contents
  const document = {
    format_version: SNAPSHOT_FORMAT_VERSION,
    source: contents.name,
    provenance: contents.provenance,
    qemu_cmd: contents.command.map(quoted).join(' '),
    architecture: contents.architecture,
    memmap_pa: hex(contents.memoryMap.address),
    memmap_key: contents.memoryMap.key,
    desc_size: contents.memoryMap.descriptorSize,
    desc_version: contents.memoryMap.descriptorVersion,
    systab_pa: hex(contents.systemTable),
    runtime_services_pa: hex(contents.runtimeServices.address),
    fw_vendor: contents.firmwareVendor,
    fw_revision: hex(contents.firmwareRevision),
    config_table_pa: hex(contents.configurationTable.address),
    config_tables: contents.configurationTable.entries.map(({ guid, table }) => ({
      guid,
      pa: hex(table),
    })),
    runtime_services_handoff: mapValues(contents.runtimeServices.functions, hex),
    stages: {
      [STAGE]: contents.registers,
      ...(recording === undefined ? {} : { [CALL_STAGE]: recording.registers }),
    },
    msrs: mapValues(contents.msrs, hex),
    memmap: contents.memoryMap.descriptors.map(descriptorDocument),
    flash: { base: hex(contents.flash.address), bytes: contents.flash.contents.length },
    devices: {
      cmos: hexBytes(contents.devices.cmos),
      pci: mapValues(contents.devices.pci, hexBytes),
      pm_base: hex(contents.devices.powerManagementBase),
    },
    files: { rt: runtime.document, fw: retained.document },
    page_tables: {
      [STAGE]: { cr3: hex(contents.root), ptpages: contents.tables.length },
      ...(recording === undefined
        ? {}
        : { [CALL_STAGE]: { cr3: hex(recording.root), ptpages: recording.tables.length } }),
    },
  }
  return new Map<string, Uint8Array | string>([
    ['snapshot.json', `${JSON.stringify(document, null, 1)}\n`],
    [runtime.document.file, runtime.packed],
    [retained.document.file, retained.packed],
    ...(await tableFiles(STAGE, contents)),
    ['flash-handoff.fd.gz', await pack(contents.flash.contents)],
    ...(recording === undefined ? [] : await recordingFiles(recording)),
  ])
}

/** The pages of page tables at a stage, and the list of them. */
async function tableFiles(
  stage: string,
  { root, tables }: Pick<SnapshotContents, 'root' | 'tables'>,
): Promise<[string, Uint8Array | string][]> {
  const bytes = Buffer.concat(tables.map((table) => table.bytes))
  const list = {
    stage,
    cr3: hex(root),
    la57: tables.some(({ level }) => level === 5),
    raw_bytes: bytes.length,
    pages: tables.map(({ address, level, linear }) => [hex(address), level, hex(linear)]),
  }
  const name = `pt-${stage[0]!}`
  return [
    [`${name}.bin.gz`, await pack(bytes)],
    [`${name}.json`, `${JSON.stringify(list)}\n`],
  ]
}

async function recordingFiles(recording: Recording): Promise<[string, Uint8Array | string][]> {
  const map = recording.virtualMap.map(descriptorDocument)
  return [
    ...(await tableFiles(CALL_STAGE, recording)),
    ['svam-map.json', `${JSON.stringify(map, null, 0)}\n`],
    ['vectors.json.gz', await pack(JSON.stringify(recordingDocument(recording)))],
  ]
}

async function packRuns(name: string, runs: readonly PageRun[]) {
  const bytes = Buffer.concat(runs.map((run) => run.bytes))
  const packed = await pack(bytes)
  return {
    packed,
    document: {
      file: `${name}.pages.gz`,
      stage: STAGE,
      format: PAGES_FORMAT,
      raw_bytes: bytes.length,
      gz_bytes: packed.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
      runs: runs.map((run) => [hex(run.address), run.bytes.length / PAGE] as const),
    },
  }
}

/** Shorter names than the specification's, for the types that have them. */
const TYPE_NAMES: Readonly<Record<number, string>> = {
  [MemoryType.ReservedMemoryType]: 'Reserved',
  [MemoryType.ConventionalMemory]: 'Conventional',
  [MemoryType.ACPIReclaimMemory]: 'ACPIReclaim',
  [MemoryType.ACPIMemoryNVS]: 'ACPINVS',
  [MemoryType.MemoryMappedIO]: 'MMIO',
}

function descriptorDocument(descriptor: MemoryDescriptor) {
  const { type, physicalStart, virtualStart, numberOfPages, attribute } = descriptor
  return {
    type,
    name: TYPE_NAMES[type] ?? memoryTypeName(type),
    phys: hex(physicalStart),
    virt: hex(virtualStart),
    pages: numberOfPages,
    attr: hex(attribute),
  }
}

/** A word of a command as a shell would need it. */
function quoted(word: string): string {
  return word.replaceAll(/[^\w./:=+@-]/g, String.raw`\$&`)
}

function mapValues<Key extends string, Value, Result>(
  record: Readonly<Record<Key, Value>>,
  change: (value: Value) => Result,
): Record<Key, Result> {
  const entries = Object.entries(record) as [Key, Value][]
  return Object.fromEntries(entries.map(([key, value]) => [key, change(value)])) as Record<
    Key,
    Result
  >
}
