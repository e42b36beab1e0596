import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { MemoryDescriptor } from '@trapdoor/uefi'
import { toMemoryDescriptors } from '../descriptors.ts'
import { IntakeError } from '../error.ts'
import type { MapEntry, MemoryMapText } from '../memory-map-text.ts'
import { readMemoryMaps } from '../read-memory-maps.ts'
import { readLines, type SourceLine, unpack } from '../source-text.ts'
import { type ObservedE820Entry, readFirmwareMemmap } from './e820.ts'
import { type ObservedIomem, readIomem } from './iomem.ts'
import { type KernelLog, readKernelLogs } from './kernel-log.ts'
import { loaderOf, type ObservedLoader } from './kexec-loader.ts'
import { type ObservedLeaf, readPageTables } from './page-tables.ts'

/** A machine that was booted while somebody looked, as a folder of what its kernels said. */
export interface ObservedBoot {
  /** The folder's name. */
  readonly name: string
  /** The firmware's map at hand-off, from `firmware-map.txt` or from the first kernel's log; undefined where none was printed. */
  readonly firmware: ObservedFirmware | undefined
  /** The emulator's command up to the kernel: two boots that have the same ran on the same machine. */
  readonly machine: string
  /** What follows -cpu, such as "max,la57=off". */
  readonly cpuModel: string
  readonly cpus: number
  /** The kernels that ran, one after the other. */
  readonly kernels: readonly ObservedKernel[]
}

/** What the firmware left in memory. Addresses are physical. */
export interface ObservedFirmware {
  readonly memoryMap: readonly MemoryDescriptor[]
  /** Where the memory attributes table is, and what it says; undefined where there is none. */
  readonly memoryAttributes:
    | { readonly address: number; readonly entries: readonly MemoryDescriptor[] }
    | undefined
}

/** One kernel: how it was started, what it was given, what it had mapped, how it ended. */
export interface ObservedKernel extends KernelLog {
  /** `boot1`, `boot2` after kexec, `kdump` after a crash; the beginning of its files' names. */
  readonly stage: string
  /** How it was loaded; undefined for the first. */
  readonly loader: ObservedLoader | undefined
  /** The e820 map that its loader gave it; undefined where neither /sys/firmware/memmap nor its log tells. */
  readonly e820: readonly ObservedE820Entry[] | undefined
  /** What /proc/iomem said; undefined where it is not at hand. */
  readonly iomem: ObservedIomem | undefined
  /** The EFI memory map that it got, without virtual addresses; undefined where it did not print it (efi=debug). */
  readonly efiMap: readonly MemoryDescriptor[] | undefined
  /** efi.memmap with virtual addresses; undefined where the kernel has none. */
  readonly runtimeMap: readonly MemoryDescriptor[] | undefined
  /** Every leaf of the EFI page tables, in the order of addresses; undefined where the kernel has none. */
  readonly leaves: readonly ObservedLeaf[] | undefined
}

/** What a process of the kernel has to have written: it reads them in /proc and /sys. */
const WRITTEN_BY_PROCESSES = ['iomem.txt', 'firmware-memmap.txt', 'runtime-map.txt'] as const

const LOG = /^(.+?)\.dmesg(?:\.txt|\.log)?(?:\.gz)?$/

/** Whether a folder holds what an observed boot leaves. */
export function isObservedBoot(folder: string): boolean {
  if (!(statSync(folder, { throwIfNoEntry: false })?.isDirectory() ?? false)) return false
  return existsSync(join(folder, 'command.txt')) || logsIn(folder).length > 0
}

/**
 * Reads a folder with `command.txt`, and for each kernel `STAGE.dmesg.gz`. What else is there is read, too: `firmware-map.txt`, and for each kernel `STAGE.runtime-map.txt`,
 * `STAGE.efi-pgd.json`, `STAGE.firmware-memmap.txt`, `STAGE.iomem.txt`. Throws an IntakeError that names file and line where something is cut or not what its name says.
 */
export function readObservedBoot(folder: string): ObservedBoot {
  const command = linesOf(join(folder, 'command.txt'))[0]!.text
  const logs = logsIn(folder)
  if (logs.length === 0) {
    throw new IntakeError('INTAKE_EMPTY', {
      file: folder,
      expected: 'the log of a kernel, boot1.dmesg.gz',
      found: 'none',
      hint: 'give the folder of one boot, or one whose subfolders are boots',
    })
  }
  const kernels: ObservedKernel[] = []
  for (const log of logs) kernels.push(readKernel(folder, log, kernels.at(-1)))
  return {
    name: basename(folder),
    firmware: readFirmware(folder, logs[0]!),
    machine: command.split(' -kernel ')[0]!,
    cpuModel: /\s-cpu\s+(\S+)/.exec(command)?.[1] ?? 'unknown',
    cpus: Number(/\s-smp\s+(\d+)/.exec(command)?.[1] ?? 1),
    kernels,
  }
}

/** A kernel's log, and the stage that its name begins with. */
interface StageLog {
  readonly stage: string
  readonly file: string
}

/** The logs in a folder in the order in which their kernels ran: by the number that the stage ends with, what has none at the end. */
function logsIn(folder: string): StageLog[] {
  return readdirSync(folder)
    .toSorted()
    .flatMap((file) => {
      const stage = LOG.exec(file)?.[1]
      return stage === undefined ? [] : [{ stage, file: join(folder, file) }]
    })
    .toSorted((a, b) => {
      const [one, other] = [numberOf(a), numberOf(b)]
      return one === other ? 0 : one - other
    })
}

function numberOf({ stage }: StageLog): number {
  return Number(/\d+$/.exec(stage)?.[0] ?? Infinity)
}

function readFirmware(folder: string, log: StageLog): ObservedFirmware | undefined {
  const file = join(folder, 'firmware-map.txt')
  return existsSync(file) ? firmwareIn(file) : tryFirmwareIn(log.file)
}

/** As {@link firmwareIn}, but undefined for a log without a whole map. */
function tryFirmwareIn(file: string): ObservedFirmware | undefined {
  return firmwareMapOf(mapsIn(file))?.complete === true ? firmwareIn(file) : undefined
}

function firmwareIn(file: string): ObservedFirmware {
  const maps = mapsIn(file)
  const map = firmwareMapOf(maps)
  if (map === undefined) {
    throw new IntakeError('INTAKE_NO_MAP', { file, expected: 'a firmware’s map', found: 'none' })
  }
  const attributes = maps.find(({ kind }) => kind === 'memory-attributes')
  const tables = linesOf(file).find(({ text }) => /\bMEMATTR=0x/.test(text))
  const address = /\bMEMATTR=(0x[\da-f]+)/.exec(tables?.text ?? '')?.[1]
  if (attributes !== undefined && address === undefined) {
    throw new IntakeError('INTAKE_INCOMPLETE', {
      file,
      line: attributes.line,
      expected: 'the address of the memory attributes table, MEMATTR=0x…',
      found: 'its entries alone',
    })
  }
  return {
    memoryMap: toMemoryDescriptors(map),
    memoryAttributes:
      attributes === undefined || address === undefined
        ? undefined
        : {
            address: Number(address),
            entries: attributes.entries.map((entry) => descriptorOf(entry, 0n)),
          },
  }
}

/** What a kernel printed of the map that it got: the firmware's, or what the kernel before has handed over of it. */
function firmwareMapOf(maps: readonly MemoryMapText[]): MemoryMapText | undefined {
  return maps.find(({ kind, format }) => kind === 'firmware' && format !== 'linux_remove_mmio')
}

/** The memory maps in a file; none where it has none. */
function mapsIn(file: string): readonly MemoryMapText[] {
  try {
    return readMemoryMaps({ file, bytes: readFileSync(file) }).maps
  } catch (error) {
    if (error instanceof IntakeError && error.code === 'INTAKE_NO_MAP') return []
    throw error
  }
}

function readKernel(
  folder: string,
  { stage, file }: StageLog,
  before: ObservedKernel | undefined,
): ObservedKernel {
  const ifThere = <T>(ending: string, read: (path: string) => T): T | undefined => {
    const path = join(folder, `${stage}.${ending}`)
    return existsSync(path) ? read(path) : undefined
  }
  const lines = linesOf(file)
  const [log] = readKernelLogs(file, lines)
  const witness = WRITTEN_BY_PROCESSES.find((ending) =>
    existsSync(join(folder, `${stage}.${ending}`)),
  )
  const { panic, exception, oops } = log!.ending
  const isWhole = log!.startedInit || panic !== undefined
  // Without a witness a death that prints no panic may be all there is.
  const tellsDeath = witness === undefined && (exception !== undefined || oops !== undefined)
  if (!isWhole && !tellsDeath) {
    throw new IntakeError('INTAKE_INCOMPLETE', {
      file,
      line: lines.findLast(({ text }) => text !== '')?.number ?? 1,
      expected:
        witness === undefined
          ? 'a log up to "Run /init as init process", or up to what the kernel died of'
          : `a log up to "Run /init as init process", as a process has written ${stage}.${witness}`,
      found: 'its end before that',
      hint:
        witness === undefined
          ? 'the log is cut, or the machine stopped without a word: take all of it, with dmesg or from the console'
          : 'the log is cut: take all of it, with dmesg or from the console',
    })
  }
  const map = firmwareMapOf(mapsIn(file))
  return {
    ...log!,
    stage,
    loader: before === undefined ? undefined : loaderOf(before.commandLine, log!.setupData),
    e820:
      ifThere('firmware-memmap.txt', (path) => readFirmwareMemmap(path, linesOf(path))) ??
      log!.biosE820,
    iomem: ifThere('iomem.txt', (path) => readIomem(linesOf(path))),
    efiMap: map?.entries.map((entry) => descriptorOf(entry, 0n)),
    runtimeMap: ifThere('runtime-map.txt', readRuntimeMap),
    leaves: ifThere('efi-pgd.json', (path) => readPageTables(path, readFileSync(path))),
  }
}

function readRuntimeMap(file: string): MemoryDescriptor[] {
  const { maps } = readMemoryMaps({ file, bytes: readFileSync(file) })
  return maps[0]!.entries.map((entry) => {
    if (entry.virtualStart === undefined || entry.attribute === null) {
      throw new IntakeError('INTAKE_BAD_ENTRY', {
        file,
        line: entry.line,
        expected: 'a descriptor with its virtual address',
        found: 'one without',
      })
    }
    return descriptorOf(entry, entry.virtualStart)
  })
}

function descriptorOf(
  { type, start, pages, attribute }: MapEntry,
  virtualStart: bigint,
): MemoryDescriptor {
  return {
    type,
    physicalStart: Number(start),
    virtualStart,
    numberOfPages: Number(pages),
    attribute: attribute ?? 0n,
  }
}

/** The lines of a text file, gzip unpacked. Throws INTAKE_EMPTY where it is not there. */
export function linesOf(file: string): SourceLine[] {
  if (!existsSync(file)) {
    throw new IntakeError('INTAKE_EMPTY', { file, expected: 'a file', found: 'none' })
  }
  return readLines(file, unpack({ file, bytes: readFileSync(file) }))
}
