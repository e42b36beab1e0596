import { type Machine, PAGE_SIZE } from '@trapdoor/core'
import type { FirmwareSnapshot } from '@trapdoor/snapshot'
import {
  ARCHITECTURES,
  decodeMemoryAttributesTable,
  encodeMemoryAttributesTable,
  Guid,
  isRuntime,
  type MemoryDescriptor,
  MemoryType,
} from '@trapdoor/uefi'
import { FirmwareError } from '../error.ts'
import { IMAGE_PAGES } from '../layout/image-layout.ts'
import { type ImageEnvironment, RuntimeImage } from '../layout/image.ts'
import type { LaidOutMachine } from '../power-on.ts'
import { type FirmwareHooks, isTapped } from '../quirk/hooks.ts'
import { addAddressChangeEvent, ADDRESS_CHANGE_EVENT } from '../services/address-change-event.ts'
import { addExitBootServicesEvent } from '../services/at-runtime.ts'
import { bootServicesOf, installDxeCore } from '../services/dxe-core.ts'
import { encodeReportedMap, FIRST_MAP_KEY, reportedMapBytes } from '../services/reported-map.ts'
import { createSetup, type ReportedMap } from '../setup.ts'
import { writeBootTable } from '../tables/efi-tables.ts'
import { describeSections } from '../tables/memory-attributes.ts'
import { hookServices } from './hook-services.ts'
import { loadMachine, type RealMachineOptions } from './load-machine.ts'
import { RealImage } from './real-image.ts'
import { RealTables } from './real-tables.ts'
import { keepFlash } from './restart.ts'
import { RuntimeLists } from './runtime-lists.ts'
import { SpareMemory } from './spare-memory.ts'

const BOOT_TYPES = [MemoryType.BootServicesData, MemoryType.BootServicesCode] as const
const HANDLE_OFFSET = 0x800
/** Bytes of the memory attributes table that are read: no firmware has a longer one. */
const LONGEST_ATTRIBUTES = 16 * PAGE_SIZE

/**
 * Powers a machine on with a real firmware. ExitBootServices is over in a snapshot, and what boot services were is not in it; so that a loader can ask for the memory map and leave boot services
 * as it does everywhere, those are modelled, in memory that the firmware had left to them, and offered in the firmware's own system table. When the loader has left them that table is what the
 * firmware made of it, and nothing of the model is left that an operating system would meet.
 */
export function powerOnSnapshot(
  snapshot: FirmwareSnapshot,
  options: RealMachineOptions,
  mapOfQuirks: readonly MemoryDescriptor[],
  hooks: FirmwareHooks,
): LaidOutMachine {
  const architecture = ARCHITECTURES[snapshot.architecture]
  const machine = loadMachine(snapshot, options)
  const { memory } = machine
  const reported: ReportedMap = { descriptors: mapOfQuirks }
  const spare = new SpareMemory(snapshot, reported)
  const images = snapshot.images.map((image) => new RealImage(image, machine, architecture))
  const environment: ImageEnvironment = { machine, hooks, architecture }
  const tables = new RealTables(memory, architecture, snapshot.systemTable)
  const before = tables.read()
  const after = tables.read()

  const bootPage = spare.allocate(BOOT_TYPES, 1, 'the boot services table')
  const corePages = spare.allocate(BOOT_TYPES, IMAGE_PAGES, 'image DxeCore')
  const core = new RuntimeImage('DxeCore', corePages, environment)
  const drivers: RuntimeImage[] = []
  if (Object.values(hooks).some(isTapped)) {
    for (const image of images) {
      image.pointer('gRT', tables.runtimeTable, 'event')
      image.pointer('gST', snapshot.systemTable, 'event')
    }
  }
  const setup = createSetup({
    machine,
    architecture,
    allocator: spare,
    images: [...images],
    core,
    ...after,
    reported,
    memoryAttributesTable: after.configTables.get(Guid.MEMORY_ATTRIBUTES_TABLE),
    codePages: [],
    loadImage: (name) => {
      const base = spare.allocate([MemoryType.RuntimeServicesCode], IMAGE_PAGES, `image ${name}`)
      const frame = base / PAGE_SIZE
      memory.owners.set(frame, frame + IMAGE_PAGES, { kind: 'firmware', name })
      const driver = new RuntimeImage(name, base, environment)
      driver.pointer('gRT', tables.runtimeTable, 'event')
      driver.pointer('gST', snapshot.systemTable, 'event')
      addExitBootServicesEvent(driver)
      // It has no PE headers, so that it cannot be among the images that the real RuntimeDxe relocates.
      addAddressChangeEvent(driver, hooks, { fixups: true })
      drivers.push(driver)
      return driver
    },
  })
  hooks.powerOn.call(setup)

  writeAttributes({ machine, snapshot, spare, hooks, setup, configTables: after.configTables })
  tables.write(before, after, (bytes) =>
    spare.allocate([MemoryType.RuntimeServicesData], pagesOf(bytes), 'changed tables'),
  )
  const lists = findLists(machine, images)
  const events = lists?.events(images) ?? []
  hookServices(machine, hooks, { images, services: before.services, events })
  for (const driver of drivers) {
    const notify = driver.gate(ADDRESS_CHANGE_EVENT)
    const place = driver.base + driver.bytes - EVENT_ROOM
    if (lists === undefined) throw noRuntimeLists(driver.name)
    lists.addEvent(place, notify)
  }
  const { descriptors } = reported
  const map = spare.allocate(BOOT_TYPES, pagesOf(reportedMapBytes(descriptors)), 'the memory map')
  memory.write(map, encodeReportedMap(descriptors, FIRST_MAP_KEY))
  const { systemTable } = snapshot
  installDxeCore(core, hooks, { map, systemTable, bootTable: bootPage, images: drivers })
  const { identity } = after
  writeBootTable(memory, bootPage, { architecture, identity, ...bootServicesOf(core) })
  tables.offerBootServices(bootPage, bootPage + architecture.tables.bootServicesTableSize)
  for (const [service, address] of before.services) machine.functionNames.set(address, service)
  machine.bootCpu.interruptFlag = true
  for (const cpu of machine.cpus.slice(1)) {
    const stack = spare.allocate(BOOT_TYPES, STACK_PAGES, `the stack of CPU ${cpu.id}`)
    cpu.rsp = BigInt(stack + STACK_PAGES * PAGE_SIZE)
  }
  return {
    machine,
    systemTable,
    imageHandle: BigInt(bootPage + HANDLE_OFFSET),
    images: [
      ...images.map((image) => image.placement(before.services)),
      ...drivers.map((driver) => driver.placement()),
    ],
    memoryMap: descriptors,
    keepOverReset: (stopped, powered) => {
      keepFlash(snapshot, stopped.machine, powered)
    },
  }
}

/** Where a loaded driver keeps the entry of its event: at the end of its data. */
const EVENT_ROOM = 0x80
const STACK_PAGES = 32

function pagesOf(bytes: number): number {
  return Math.ceil(bytes / PAGE_SIZE)
}

/** The lists that SetVirtualAddressMap walks; undefined where no image is edk2's RuntimeDxe. */
function findLists(machine: Machine, images: readonly RealImage[]): RuntimeLists | undefined {
  const runtimeDxe = images.find(({ name }) => name === 'RuntimeDxe')
  return runtimeDxe && RuntimeLists.find(machine.memory, runtimeDxe, images)
}

function noRuntimeLists(driver: string): FirmwareError {
  return new FirmwareError('FIRMWARE_BAD_SETUP', {
    expected: `a firmware with edk2's RuntimeDxe, for ${driver} to be told of the change of addresses`,
    found: 'none among its images',
    hint: 'a quirk with a driver of its own needs one',
  })
}

/** Lets quirks change the memory attributes table, with what was added to the firmware in it. One that nobody changes is left as it is. */
function writeAttributes(build: {
  readonly machine: Machine
  readonly snapshot: FirmwareSnapshot
  readonly spare: SpareMemory
  readonly hooks: FirmwareHooks
  readonly setup: ReturnType<typeof createSetup>
  readonly configTables: Map<string, number>
}): void {
  const { machine, snapshot, spare, hooks, setup, configTables } = build
  const place = configTables.get(Guid.MEMORY_ATTRIBUTES_TABLE)
  if (place === undefined) return
  const table = decodeMemoryAttributesTable(
    machine.memory.read(place, LONGEST_ATTRIBUTES),
    snapshot.memoryMap.length,
  )
  const added = describeSections(spare.added.filter(isRuntime), setup.codePages())
  const entries = hooks.memoryAttributes.call([...table.entries, ...added], setup)
  if (entries.length === 0) {
    configTables.delete(Guid.MEMORY_ATTRIBUTES_TABLE)
    return
  }
  if (isSame(entries, table.entries)) return
  const bytes = encodeMemoryAttributesTable({ ...table, entries })
  const goesWhereItWas = entries.length <= table.entries.length
  const address = goesWhereItWas
    ? place
    : spare.allocate(BOOT_TYPES, pagesOf(bytes.length), 'the memory attributes table')
  machine.memory.write(address, bytes)
  configTables.set(Guid.MEMORY_ATTRIBUTES_TABLE, address)
}

function isSame(a: readonly MemoryDescriptor[], b: readonly MemoryDescriptor[]): boolean {
  return a.length === b.length && a.every((each, index) => each === b[index])
}
