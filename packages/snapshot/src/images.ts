import {
  type Architecture,
  debugFileName,
  decodePeHeaders,
  descriptorEnd,
  formatGuid,
  type MemoryDescriptor,
  MemoryType,
  parseGuid,
  RUNTIME_SERVICES,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import type { PhysicalPages } from './physical-pages.ts'
import type { FirmwareImage } from './snapshot.ts'

const PAGE = 4096

/** Where the firmware is that has images. */
export interface ImagePlaces {
  readonly architecture: Architecture
  readonly memoryMap: readonly MemoryDescriptor[]
  readonly systemTable: number
  readonly smm: boolean
}

/**
 * Finds the images that a firmware has in runtime memory, by their PE headers, in the order of their addresses. An image is called as its debug directory, else as the firmware volume calls it that it came from,
 * else, where boot-services memory is not there to tell, by the services that lead into it, else by its GUID, else by where it is.
 */
export function findImages(pages: PhysicalPages, places: ImagePlaces): FirmwareImage[] {
  const guids = loadedGuids(pages, places)
  const services = serviceAddresses(pages, places)
  return places.memoryMap
    .filter(({ type }) => type === MemoryType.RuntimeServicesCode)
    .toSorted((a, b) => a.physicalStart - b.physicalStart)
    .flatMap((region) => imagesIn(pages, region))
    .map(({ base, bytes, debugName }) => {
      const guid = guids.get(base)
      const own = RUNTIME_SERVICES.filter((service) => {
        const address = services[service]
        return address >= base && address < base + bytes
      })
      const name =
        debugName ??
        (guid === undefined ? undefined : volumeName(pages, guid)) ??
        nameOfServices(own, places.smm) ??
        guid ??
        `image at 0x${base.toString(16)}`
      return { name, base, bytes, guid }
    })
}

/** The drivers of edk2 by a service that each alone has (the BASE_NAMEs of their INF files). */
const DRIVERS: Partial<Record<RuntimeServiceName, string>> = {
  SetVirtualAddressMap: 'RuntimeDxe',
  GetVariable: 'VariableRuntimeDxe',
  GetTime: 'PcRtc',
  ResetSystem: 'ResetSystemRuntimeDxe',
  UpdateCapsule: 'CapsuleRuntimeDxe',
  GetNextHighMonotonicCount: 'MonotonicCounterRuntimeDxe',
}
/** The one that stands in front of a variable driver in system-management mode. */
const VARIABLES_WITH_SMM = 'VariableSmmRuntimeDxe'

function nameOfServices(services: readonly RuntimeServiceName[], smm: boolean): string | undefined {
  const service = services.find((each) => DRIVERS[each] !== undefined)
  if (service === 'GetVariable' && smm) return VARIABLES_WITH_SMM
  return service === undefined ? undefined : DRIVERS[service]
}

function imagesIn(
  pages: PhysicalPages,
  region: MemoryDescriptor,
): { readonly base: number; readonly bytes: number; readonly debugName: string | undefined }[] {
  const found = []
  const end = descriptorEnd(region)
  for (let base = region.physicalStart; base < end; base += PAGE) {
    const headers = decodePeHeaders(pages.read(base, PAGE))
    if (headers === undefined || headers.bytes === 0 || base + headers.bytes > end) continue
    const path = debugFileName(headers, (address, length) => pages.read(base + address, length))
    const debugName = path
      ?.split(/[/\\]/)
      .at(-1)
      ?.replace(/\.\w+$/, '')
    found.push({ base, bytes: headers.bytes, debugName })
    base += Math.ceil(headers.bytes / PAGE) * PAGE - PAGE
  }
  return found
}

/** The runtime services table's functions. */
function serviceAddresses(
  pages: PhysicalPages,
  { architecture, systemTable }: ImagePlaces,
): Record<RuntimeServiceName, number> {
  const { tables, naturalBytes } = architecture
  const runtime = pages.readPointer(systemTable + tables.systemTable.RuntimeServices, naturalBytes)
  return Object.fromEntries(
    RUNTIME_SERVICES.map((name) => [
      name,
      pages.readPointer(runtime + tables.runtimeServicesTable[name], naturalBytes),
    ]),
  ) as Record<RuntimeServiceName, number>
}

/** EFI_DEBUG_IMAGE_INFO_TABLE_GUID (UEFI 2.10, 18.4.3). */
const DEBUG_IMAGE_INFO_TABLE = '49152e77-1ada-4764-b7a2-7afefed95e8b'
/** EFI_DEBUG_IMAGE_INFO_TYPE_NORMAL. */
const NORMAL = 1
const MOST_IMAGES = 4096
/** EFI_LOADED_IMAGE_PROTOCOL, in words of natural size (UEFI 2.10, 9.1): the revision takes one, too. */
const LoadedImage = { FilePath: 4, ImageBase: 8 } as const
/** A device-path node for a file of a firmware volume (PI 1.7, volume 3, 8.3). */
const MEDIA_DEVICE_PATH = 4
const PIWG_FIRMWARE_FILE = 6

/** The GUIDs of loaded images by where they were loaded, from the table that the DXE core keeps for debuggers. It lies in boot-services memory. */
function loadedGuids(
  pages: PhysicalPages,
  { architecture, systemTable }: ImagePlaces,
): Map<number, string> {
  const { tables, naturalBytes: word } = architecture
  const guids = new Map<number, string>()
  const count = pages.readPointer(systemTable + tables.systemTable.NumberOfTableEntries, word)
  const config = pages.readPointer(systemTable + tables.systemTable.ConfigurationTable, word)
  const header = configTable(pages, { config, count, size: tables.configTableEntrySize, word })
  if (header === undefined) return guids
  const entries = Math.min(pages.read32(header + 4), MOST_IMAGES)
  const array = pages.readPointer(header + 8, word)
  for (let index = 0; index < entries; index++) {
    const info = pages.readPointer(array + index * word, word)
    if (info === 0 || pages.read32(info) !== NORMAL) continue
    const image = pages.readPointer(info + word, word)
    const base = pages.readPointer(image + LoadedImage.ImageBase * word, word)
    const path = pages.readPointer(image + LoadedImage.FilePath * word, word)
    const [type, subtype] = pages.read(path, 2)
    if (type !== MEDIA_DEVICE_PATH || subtype !== PIWG_FIRMWARE_FILE) continue
    guids.set(base, formatGuid(pages.read(path + 4, 16)))
  }
  return guids
}

/** Address of the table with this GUID. */
function configTable(
  pages: PhysicalPages,
  place: { config: number; count: number; size: number; word: 4 | 8 },
): number | undefined {
  const guid = Buffer.from(parseGuid(DEBUG_IMAGE_INFO_TABLE))
  for (let index = 0; index < Math.min(place.count, MOST_IMAGES); index++) {
    const entry = place.config + index * place.size
    if (guid.equals(pages.read(entry, 16))) return pages.readPointer(entry + 16, place.word)
  }
  return undefined
}

/** EFI_FFS_FILE_HEADER: GUID, checksums, type, attributes, 24 bits of size, state (PI 1.7, volume 3, 3.2.3). */
const FILE_HEADER_BYTES = 24
/** EFI_FV_FILETYPE_DRIVER and EFI_FV_FILETYPE_DXE_CORE. */
const FILE_TYPES: ReadonlySet<number> = new Set([0x07, 0x05])
const USER_INTERFACE_SECTION = 0x15
const SECTION_HEADER_BYTES = 4
const MOST_SECTIONS = 16

/** What a file of a firmware volume calls itself to people, where the volume is in memory: edk2 unpacks it there. */
function volumeName(pages: PhysicalPages, guid: string): string | undefined {
  for (const file of pages.find(parseGuid(guid))) {
    const name = userInterfaceName(pages, file)
    if (name !== undefined) return name
  }
  return undefined
}

function userInterfaceName(pages: PhysicalPages, file: number): string | undefined {
  const header = pages.read(file, FILE_HEADER_BYTES)
  if (!FILE_TYPES.has(header[18]!)) return undefined
  const end = file + size24(header, 20)
  let section = file + FILE_HEADER_BYTES
  for (let index = 0; index < MOST_SECTIONS && section < end; index++) {
    const start = pages.read(section, SECTION_HEADER_BYTES)
    const size = size24(start, 0)
    if (size <= SECTION_HEADER_BYTES || section + size > end) return undefined
    if (start[3] === USER_INTERFACE_SECTION) {
      const text = pages.read(section + SECTION_HEADER_BYTES, size - SECTION_HEADER_BYTES)
      return new TextDecoder('utf-16le').decode(text).split('\0')[0]
    }
    section += Math.ceil(size / 4) * 4
  }
  return undefined
}

function size24(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16)
}
