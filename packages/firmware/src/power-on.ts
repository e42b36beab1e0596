import { type CpuFeatures, Machine, NEHALEM, PAGE_SIZE } from '@trapdoor/core'
import {
  type Architecture,
  Guid,
  type MemoryDescriptor,
  MemoryType,
  naturalBits,
  RUNTIME_SERVICES,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import { processCapsules } from './capsules.ts'
import { type ImagePlacement, RuntimeImage } from './layout/image.ts'
import { IMAGE_PAGES } from './layout/image-layout.ts'
import { mtrrsOf, ownFrames } from './layout/machine-memory.ts'
import { RegionAllocator } from './layout/region-allocator.ts'
import { startCpus } from './layout/start-cpus.ts'
import type { FirmwareHooks } from './quirk/hooks.ts'
import { keepOverReset, type PersistentState } from './reset.ts'
import { addAddressChangeEvent } from './services/address-change-event.ts'
import { addExitBootServicesEvent } from './services/at-runtime.ts'
import { capsuleRuntimeDxe } from './services/capsule-runtime-dxe.ts'
import type { RuntimeDriver } from './services/driver.ts'
import { bootServicesOf, installDxeCore } from './services/dxe-core.ts'
import { COUNT_SLOT, monotonicCounterRuntimeDxe } from './services/monotonic-counter-runtime-dxe.ts'
import { pcRtc } from './services/pc-rtc.ts'
import { encodeReportedMap, FIRST_MAP_KEY, reportedMapBytes } from './services/reported-map.ts'
import { resetSystemRuntimeDxe } from './services/reset-system-runtime-dxe.ts'
import { registerImages, runtimeDxe } from './services/runtime-dxe.ts'
import {
  NV_STORE_BYTES,
  NV_STORE_SLOT,
  variableRuntimeDxe,
} from './services/variable-runtime-dxe.ts'
import { createSetup, type ReportedMap } from './setup.ts'
import { encodeAcpi } from './tables/acpi.ts'
import { OWN_IDENTITY, placeTables, type TablePlaces, writeTables } from './tables/efi-tables.ts'
import {
  describeSections,
  encodeMemoryAttributes,
  imagePlaces,
  type MemoryAttributesPlace,
} from './tables/memory-attributes.ts'
import { encodeSmbios } from './tables/smbios.ts'

/** A machine that a loader can be started on, and where things are in it. */
export interface LaidOutMachine {
  readonly machine: Machine
  readonly systemTable: number
  readonly imageHandle: bigint
  readonly images: readonly ImagePlacement[]
  /** The map as GetMemoryMap reports it at power-on. */
  readonly memoryMap: readonly MemoryDescriptor[]
  /** Carries what a power cycle keeps into `after`, which was just powered on with this firmware. */
  readonly keepOverReset: (before: StoppedMachine, after: Machine) => void
  /** Where a modelled firmware has what it keeps. */
  readonly persistent?: PersistentState
}

/** A machine whose power was cut, or that was reset. */
interface StoppedMachine {
  readonly machine: Machine
  /** The firmware that it ran with. */
  readonly firmware: LaidOutMachine
  /** Whether its memory survived. */
  readonly memory: 'lost' | 'kept'
}

const DRIVERS: readonly RuntimeDriver[] = [
  runtimeDxe,
  variableRuntimeDxe,
  pcRtc,
  resetSystemRuntimeDxe,
  capsuleRuntimeDxe,
  monotonicCounterRuntimeDxe,
]
const BOOT_TYPES = [MemoryType.BootServicesData, MemoryType.BootServicesCode] as const
/** Offset of the SMBIOS tables in the page of the EFI tables. */
const SMBIOS_OFFSET = 0x800
const HANDLE_OFFSET = 0x800

/** Powers a machine on: memory, images, tables, quirks' drivers, and the CPUs as a loader finds them. */
export function layOutMachine(
  options: {
    readonly memoryMap: readonly MemoryDescriptor[]
    readonly architecture: Architecture
    readonly features?: CpuFeatures
    readonly cpus?: number
    readonly memoryAttributesTable?: 'none' | MemoryAttributesPlace
  },
  mapOfQuirks: readonly MemoryDescriptor[],
  hooks: FirmwareHooks,
): LaidOutMachine {
  const { memoryMap, architecture, features = NEHALEM, cpus = 1 } = options
  const start = architecture.name === 'x64' ? 'long-mode' : 'reset'
  const machine = new Machine({ cpus, features, mtrrs: mtrrsOf(memoryMap), start })
  ownFrames(machine, memoryMap)
  const addressBits = Math.min(features.maxPhysicalAddressBits, naturalBits(architecture))
  const allocator = new RegionAllocator(memoryMap, 2 ** addressBits)
  const bootPool = (bytes: number, purpose: string): number =>
    allocator.allocate(BOOT_TYPES, Math.ceil(bytes / PAGE_SIZE), purpose)
  const runtimePool = (pages: number, purpose: string): number =>
    allocator.allocate([MemoryType.RuntimeServicesData], pages, purpose)

  const bootPage = bootPool(PAGE_SIZE, 'the boot services table')
  const tablePage = runtimePool(1, 'the EFI tables')
  const places = placeTables(tablePage, bootPage)
  const given = options.memoryAttributesTable
  const environment = { machine, hooks, architecture }
  const newImage = (name: string, base: number): RuntimeImage => {
    const frame = base / PAGE_SIZE
    machine.memory.owners.set(frame, frame + IMAGE_PAGES, { kind: 'firmware', name })
    return new RuntimeImage(name, base, environment)
  }
  const loadImage = (name: string): RuntimeImage =>
    newImage(
      name,
      allocator.allocate([MemoryType.RuntimeServicesCode], IMAGE_PAGES, `image ${name}`),
    )
  const bases = typeof given === 'object' ? imagePlaces(given.entries, DRIVERS.length) : undefined
  const images = DRIVERS.map(({ name }, index) =>
    bases === undefined ? loadImage(name) : newImage(name, bases[index]!),
  )
  for (const [index, driver] of DRIVERS.entries()) {
    const image = images[index]!
    prepareImage(image, places, image === images[0], hooks)
    driver.install({ image, machine, hooks, allocatePool: runtimePool })
  }

  const reported: ReportedMap = { descriptors: mapOfQuirks }
  const identity = { ...OWN_IDENTITY }
  const configTables = placeVendorTables(machine, allocator, tablePage)
  const services = serviceAddresses(images)
  const attributesTable =
    typeof given === 'object' ? given.address : placeAttributes(given, allocator)
  const core = new RuntimeImage('DxeCore', bootCode(allocator), environment)
  const setup = createSetup({
    machine,
    architecture,
    allocator,
    images,
    core,
    services,
    reported,
    identity,
    configTables,
    memoryAttributesTable: attributesTable,
    codePages: images.map(({ base }) => base / PAGE_SIZE),
    loadImage: (name) => {
      const image = loadImage(name)
      prepareImage(image, places, false, hooks)
      return image
    },
  })
  hooks.powerOn.call(setup)
  if (attributesTable !== undefined) {
    const entries = hooks.memoryAttributes.call(
      typeof given === 'object'
        ? given.entries
        : describeSections(reported.descriptors, setup.codePages()),
      setup,
    )
    if (entries.length > 0) {
      machine.memory.write(attributesTable, encodeMemoryAttributes(entries))
      configTables.set(Guid.MEMORY_ATTRIBUTES_TABLE, attributesTable)
    }
  }

  const { descriptors } = reported
  const map = bootPool(reportedMapBytes(descriptors), 'the memory map')
  machine.memory.write(map, encodeReportedMap(descriptors, FIRST_MAP_KEY))
  installDxeCore(core, hooks, { ...places, map, images })
  registerImages(machine.memory, images[0]!, images)
  writeTables(machine.memory, places, {
    architecture,
    services: Object.fromEntries(services) as Record<RuntimeServiceName, number>,
    ...bootServicesOf(core),
    console: bootPage + architecture.tables.bootServicesTableSize,
    configTables,
    identity,
  })
  startCpus(machine, architecture, memoryMap, bootPool)
  const persistent: PersistentState = {
    nvStore: slotValue(images, 'VariableRuntimeDxe', NV_STORE_SLOT),
    nvStoreBytes: NV_STORE_BYTES,
    monotonicCount: slotValue(images, 'MonotonicCounterRuntimeDxe', COUNT_SLOT),
  }
  return {
    machine,
    systemTable: places.systemTable,
    imageHandle: BigInt(bootPage + HANDLE_OFFSET),
    images: images.map((image) => image.placement()),
    memoryMap: descriptors,
    persistent,
    keepOverReset: ({ machine: stopped, firmware, memory }, after) => {
      keepOverReset(
        { machine: stopped, persistent: firmware.persistent ?? persistent },
        { machine: after, persistent },
      )
      if (memory === 'kept') processCapsules(stopped, after, persistent, architecture)
    },
  }
}

/** What every image has, whatever its driver adds: pointers to the tables, and the two events. */
function prepareImage(
  image: RuntimeImage,
  places: TablePlaces,
  isRuntimeDxe: boolean,
  hooks: FirmwareHooks,
): void {
  // RuntimeDxe goes on using the physical addresses of the tables that it converts.
  const conversion = isRuntimeDxe ? 'none' : 'event'
  image.pointer('gRT', places.runtimeTable, conversion)
  image.pointer('gST', places.systemTable, conversion)
  addExitBootServicesEvent(image)
  addAddressChangeEvent(image, hooks)
}

/** ACPI in reclaimable memory, SMBIOS beside the EFI tables, and the configuration table's entries for them. */
function placeVendorTables(
  machine: Machine,
  allocator: RegionAllocator,
  tablePage: number,
): Map<string, number> {
  const acpi = allocator.allocate(
    [
      MemoryType.ACPIReclaimMemory,
      MemoryType.ACPIMemoryNVS,
      MemoryType.ReservedMemoryType,
      MemoryType.RuntimeServicesData,
    ],
    1,
    'the ACPI tables',
  )
  const smbios = tablePage + SMBIOS_OFFSET
  machine.memory.write(acpi, encodeAcpi(acpi))
  machine.memory.write(smbios, encodeSmbios(smbios))
  return new Map([
    [Guid.ACPI_20, acpi],
    [Guid.ACPI_10, acpi],
    [Guid.SMBIOS, smbios],
  ])
}

function bootCode(allocator: RegionAllocator): number {
  const types = [MemoryType.BootServicesCode, MemoryType.BootServicesData]
  return allocator.allocate(types, IMAGE_PAGES, 'image DxeCore')
}

function serviceAddresses(images: readonly RuntimeImage[]): Map<RuntimeServiceName, number> {
  const gates = images.flatMap((image) => image.placement().gates)
  return new Map(
    RUNTIME_SERVICES.map((name) => [name, gates.find((gate) => gate.name === name)?.address ?? 0]),
  )
}

/** A page of boot services data for the memory attributes table, beside as little else as possible. */
function placeAttributes(
  given: 'none' | undefined,
  allocator: RegionAllocator,
): number | undefined {
  if (given === 'none') return undefined
  return allocator.allocateApart([MemoryType.BootServicesData], 1, 'the memory attributes table')
}

function slotValue(images: readonly RuntimeImage[], name: string, slot: string): number {
  return Number(images.find((each) => each.name === name)?.slotValue(slot) ?? 0n)
}
