/** Memory that there is, as the BIOS function E820h reports it. */
export interface MemoryRange {
  /** Physical address. */
  readonly start: number
  /** Exclusive. */
  readonly end: number
  /** 1 for memory that can be used, 2 for reserved ranges (ACPI 6.4, table 15-374). */
  readonly type: 1 | 2
}

/** A module that lies in memory. */
export interface LoadedModule {
  readonly start: number
  /** Exclusive. */
  readonly end: number
  readonly commandLine: string
}

/** What a loader tells an image. */
export interface BootInformation {
  readonly commandLine: string
  readonly loaderName: string
  readonly memoryMap: readonly MemoryRange[]
  readonly modules: readonly LoadedModule[]
}

/** What EAX holds when the image starts (Multiboot 0.6.96, 3.2). */
export const MULTIBOOT_BOOTLOADER_MAGIC = 0x2bad_b002

const Flag = {
  Memory: 0x1,
  CommandLine: 0x4,
  Modules: 0x8,
  MemoryMap: 0x40,
  LoaderName: 0x200,
} as const
/** Fields of the structure (3.3). */
const Field = {
  Flags: 0,
  MemoryLower: 4,
  MemoryUpper: 8,
  CommandLine: 16,
  ModuleCount: 20,
  Modules: 24,
  MemoryMapBytes: 44,
  MemoryMap: 48,
  LoaderName: 64,
} as const
const STRUCTURE_BYTES = 88
const MODULE_BYTES = 16
const MAP_ENTRY_BYTES = 24
const KIB = 1024
const MIB = 2 ** 20
/** Lower memory ends below the extended BIOS data area, and 640 KiB is all there can be. */
const LOWER_LIMIT = 640 * KIB

/** The boot information as bytes for physical address `at`, which goes into EBX: the structure, and behind it what it points to. */
export function encodeBootInformation(information: BootInformation, at: number): Uint8Array {
  const { memoryMap, modules } = information
  const text = new TextEncoder()
  const strings: Uint8Array[] = []
  const modulesAt = at + STRUCTURE_BYTES
  const mapAt = modulesAt + modules.length * MODULE_BYTES
  let end = mapAt + memoryMap.length * MAP_ENTRY_BYTES
  const string = (value: string): number => {
    const bytes = text.encode(`${value}\0`)
    strings.push(bytes)
    end += bytes.length
    return end - bytes.length
  }
  const stringsAt = end
  const commandLineAt = string(information.commandLine)
  const loaderNameAt = string(information.loaderName)
  const moduleLines = modules.map(({ commandLine }) => string(commandLine))

  const bytes = new Uint8Array(end - at)
  const view = new DataView(bytes.buffer)
  const set = (field: number, value: number): void => view.setUint32(field, value, true)
  set(Field.Flags, Flag.Memory | Flag.CommandLine | Flag.Modules | Flag.MemoryMap | Flag.LoaderName)
  set(Field.MemoryLower, Math.floor(memoryFrom(memoryMap, 0, LOWER_LIMIT) / KIB))
  set(Field.MemoryUpper, Math.floor(memoryFrom(memoryMap, MIB, 2 ** 32) / KIB))
  set(Field.CommandLine, commandLineAt)
  set(Field.ModuleCount, modules.length)
  set(Field.Modules, modulesAt)
  set(Field.MemoryMapBytes, memoryMap.length * MAP_ENTRY_BYTES)
  set(Field.MemoryMap, mapAt)
  set(Field.LoaderName, loaderNameAt)
  for (const [index, { start, end: moduleEnd }] of modules.entries()) {
    const entry = modulesAt - at + index * MODULE_BYTES
    set(entry, start)
    set(entry + 4, moduleEnd)
    set(entry + 8, moduleLines[index]!)
  }
  for (const [index, range] of memoryMap.entries()) {
    const entry = mapAt - at + index * MAP_ENTRY_BYTES
    // The size of an entry does not count itself.
    set(entry, MAP_ENTRY_BYTES - 4)
    view.setBigUint64(entry + 4, BigInt(range.start), true)
    view.setBigUint64(entry + 12, BigInt(range.end - range.start), true)
    set(entry + 20, range.type)
  }
  let cursor = stringsAt - at
  for (const each of strings) {
    bytes.set(each, cursor)
    cursor += each.length
  }
  return bytes
}

/** Bytes of memory without a hole from `start` on, up to `limit`. */
function memoryFrom(map: readonly MemoryRange[], start: number, limit: number): number {
  const range = map.find((each) => each.type === 1 && each.start <= start && start < each.end)
  return range === undefined ? 0 : Math.min(range.end, limit) - start
}
