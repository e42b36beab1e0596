import { formatAddress, type Machine, PAGE_SIZE } from '@trapdoor/core'
import {
  type Architecture,
  descriptorEnd,
  type MemoryDescriptor,
  memoryTypeName,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import { FirmwareError } from './error.ts'
import type { PointerConversion, RuntimeImage } from './layout/image.ts'
import { bindFunction } from './quirk/bind-function.ts'
import type { FirmwareSetup } from './quirk/firmware-setup.ts'
import { LONGEST_VENDOR, type TableIdentity } from './tables/efi-tables.ts'

/** The map that GetMemoryMap is to report. */
export interface ReportedMap {
  descriptors: readonly MemoryDescriptor[]
}

/** Who hands out pages at power-on. */
export interface PageSource {
  /** The address of `pages` zeroed pages of one of `types`, tried in this order. Throws FIRMWARE_NO_ROOM, naming `purpose`. */
  allocate(types: readonly number[], pages: number, purpose: string): number
}

/** An image that can be given pointers. */
export interface PointerHolder {
  readonly name: string
  readonly base: number
  pointer(name: string, value: number | bigint, conversion: PointerConversion): void
}

/** The setup that quirks get at power-on, over a machine that is being laid out, and the frames that code was put into. */
export function createSetup(build: {
  machine: Machine
  architecture: Architecture
  allocator: PageSource
  images: PointerHolder[]
  core: PointerHolder
  services: Map<RuntimeServiceName, number>
  reported: ReportedMap
  identity: TableIdentity
  configTables: Map<string, number>
  memoryAttributesTable: number | undefined
  loadImage: (name: string) => RuntimeImage
  /** Frames that hold code from the beginning. */
  codePages: Iterable<number>
}): FirmwareSetup & { readonly codePages: () => ReadonlySet<number> } {
  const {
    machine,
    architecture,
    allocator,
    images,
    core,
    services,
    reported,
    identity,
    configTables,
  } = build
  const codePages = new Set(build.codePages)
  const imageNamed = (name: string): PointerHolder => {
    const image = [...images, core].find((each) => each.name === name)
    if (image !== undefined) return image
    throw new FirmwareError('FIRMWARE_BAD_SETUP', {
      expected: 'an image of this firmware',
      found: `"${name}"`,
      hint: `there are ${images.map((each) => each.name).join(', ')}`,
    })
  }
  return {
    architecture,
    allocate: ({ type, pages, name }) => allocator.allocate([type], pages, name),
    allocateOutsideMap: ({ address, pages, name }) => {
      const end = address + pages * PAGE_SIZE
      const listed = reported.descriptors.find(
        (each) => each.physicalStart < end && address < descriptorEnd(each),
      )
      if (listed !== undefined) {
        throw new FirmwareError('FIRMWARE_BAD_SETUP', {
          expected: `a map that does not list ${formatAddress(address)} (${name})`,
          found: `${memoryTypeName(listed.type)} from ${formatAddress(listed.physicalStart)}`,
          hint: "take it out of the map in the quirk's memoryMap hook",
        })
      }
      machine.memory.owners.set(address / PAGE_SIZE, end / PAGE_SIZE, { kind: 'device', name })
      return address
    },
    code: ({ address, image, name, service, run }) => {
      const layout = { name: image, architecture, slots: new Map<string, number>() }
      machine.memory.write(
        address,
        bindFunction(machine, layout, { name, service, offset: 0, run }),
      )
      codePages.add(Math.floor(address / PAGE_SIZE))
      return address
    },
    write64: (address, value) => machine.memory.write64(address, value),
    write: (address, bytes) => machine.memory.write(address, bytes),
    pointer: (image, slot, value, options = {}) =>
      imageNamed(image).pointer(slot, value, options.convert === false ? 'none' : 'event'),
    loadDriver: (name) => {
      const image = build.loadImage(name)
      images.push(image)
      return {
        base: image.base,
        code: (label, service, run) => image.code(label, service, run),
        pointer: (slot, value, options = {}) =>
          image.pointer(slot, value, options.convert === false ? 'none' : 'event'),
      }
    },
    replaceService: (service, address) => {
      const before = services.get(service) ?? 0
      services.set(service, address)
      return before
    },
    memoryAttributesTable: build.memoryAttributesTable,
    imageBase: (image) => imageNamed(image).base,
    configTable: (guid) => configTables.get(guid),
    setConfigTable: (guid, address) => {
      configTables.set(guid, address)
    },
    reportMap: (change) => {
      reported.descriptors = change(reported.descriptors)
    },
    identify: ({ vendor = identity.vendor, revision = identity.revision }) => {
      if (vendor.length > LONGEST_VENDOR) {
        throw new FirmwareError('FIRMWARE_BAD_SETUP', {
          expected: `a vendor of at most ${LONGEST_VENDOR} characters`,
          found: `"${vendor}"`,
        })
      }
      Object.assign(identity, { vendor, revision })
    },
    codePages: () => codePages,
  }
}
