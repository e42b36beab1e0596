import {
  type Cpu,
  type CpuFeatures,
  Cr0,
  Gpr,
  LOCAL_APIC_ADDRESS,
  LocalApic,
  Machine,
  PAGE_SIZE,
  Segment,
  type SegmentNumber,
  SegmentRights,
  SerialPort,
  ZEN3,
} from '@trapdoor/core'
import { EventDelivery, Interpreter } from '@trapdoor/cpu'
import { DebugExit } from './devices/debug-exit.ts'
import { FirmwareConfiguration } from './devices/firmware-configuration.ts'
import { TestDeviceMemory, TestDevicePorts } from './devices/test-device.ts'
import { Unpopulated } from './devices/unpopulated.ts'
import { GuestError } from './error.ts'
import type { MultibootImage } from './multiboot/image.ts'
import {
  type BootInformation,
  encodeBootInformation,
  type LoadedModule,
  type MemoryRange,
  MULTIBOOT_BOOTLOADER_MAGIC,
} from './multiboot/information.ts'

/** A file that the loader puts into memory beside the image. */
export interface GuestModule {
  readonly bytes: Uint8Array
  readonly commandLine: string
}

/** What a guest is started with. */
export interface GuestOptions {
  /** What errors call the image, and the first word of its command line. */
  readonly file: string
  /** What follows the file's name on the command line. */
  readonly append?: string
  /** Default: an EPYC of 2021, which has all that is modelled but 5-level paging and supervisor keys. */
  readonly features?: CpuFeatures
  /** Bytes of memory, a multiple of 1 MiB from 2 MiB on. Default: {@link DEFAULT_MEMORY_BYTES}. */
  readonly memoryBytes?: number
  readonly modules?: readonly GuestModule[]
  /** Gets each byte that the guest sends on its serial port. */
  readonly transmit: (byte: number) => void
}

/** A PC that an image was loaded into. */
export interface GuestMachine {
  readonly machine: Machine
  readonly cpu: Cpu
  readonly events: EventDelivery
}

/** Bytes of memory that a guest has where nothing else is said. */
export const DEFAULT_MEMORY_BYTES: number = 256 * 2 ** 20
const MIB = 2 ** 20
const GIB = 2 ** 30
/** Where the memory below 4 GiB ends at the most; the rest lies from 4 GiB up. */
const LOW_MEMORY_LIMIT = 3 * GIB
const BIOS_DATA_AREA = 0x9_fc00
const VIDEO_MEMORY = 0xa_0000
const BIOS = 0xf_0000
const TEST_DEVICE_MEMORY = 0xff00_0000
/** Where the boot information goes if it can, as in QEMU (hw/i386/multiboot.c). */
const INFORMATION_FROM = 0x9000
const LOADER_NAME = 'trapdoor'

/**
 * A PC with one CPU, a serial port, a local APIC and an exit port, and the image in its memory: it stands before the first instruction as a Multiboot loader leaves it, in 32-bit protected mode with paging off and
 * interrupts off (Multiboot 0.6.96, 3.2). An image or a module that finds no room is GUEST_NO_ROOM.
 */
export function loadGuest(image: MultibootImage, options: GuestOptions): GuestMachine {
  const memoryBytes = options.memoryBytes ?? DEFAULT_MEMORY_BYTES
  const lowEnd = Math.min(memoryBytes, LOW_MEMORY_LIMIT)
  const highEnd = 4 * GIB + (memoryBytes - lowEnd)
  const machine = new Machine({
    features: options.features ?? ZEN3,
    start: 'reset',
    flatWindow: lowEnd,
    // Guests change their tables as they like: who changed what is nobody's question here.
    auditTranslations: false,
    // Walks that start at the root cost less than keeping what they pass through, and no guest may rely on either.
    structureCaches: false,
  })
  machine.log.isRecording = false
  const interpreter = new Interpreter()
  machine.executor = interpreter
  const cpu = machine.bootCpu
  const events = new EventDelivery(interpreter.execution(cpu))
  attachDevices(machine, events, { ...options, memoryBytes, lowEnd, highEnd })
  const memoryMap = memoryRanges(lowEnd, highEnd)
  const modules = placeImage(machine, image, options, lowEnd)
  const information: BootInformation = {
    commandLine: options.append === undefined ? options.file : `${options.file} ${options.append}`,
    loaderName: LOADER_NAME,
    memoryMap,
    modules,
  }
  const informationAt = placeInformation(machine, image, information, options.file)
  start(cpu, image.entry, informationAt)
  return { machine, cpu, events }
}

function attachDevices(
  machine: Machine,
  events: EventDelivery,
  {
    transmit,
    memoryBytes,
    lowEnd,
    highEnd,
  }: GuestOptions & {
    readonly memoryBytes: number
    readonly lowEnd: number
    readonly highEnd: number
  },
): void {
  const { memory, ports, bootCpu: cpu } = machine
  const apic = new LocalApic({ clock: () => events.clock, onNmi: () => events.requestNmi() })
  cpu.localApic = apic
  memory.attachDevice(apic)
  memory.attachDevice(new TestDeviceMemory())
  memory.attachDevice(new Unpopulated(VIDEO_MEMORY, MIB))
  memory.attachDevice(new Unpopulated(lowEnd, LOCAL_APIC_ADDRESS))
  memory.attachDevice(new Unpopulated(LOCAL_APIC_ADDRESS + PAGE_SIZE, TEST_DEVICE_MEMORY))
  memory.attachDevice(new Unpopulated(TEST_DEVICE_MEMORY + 0x1_0000, 4 * GIB))
  const limit = 2 ** machine.features.maxPhysicalAddressBits
  if (highEnd < limit) memory.attachDevice(new Unpopulated(highEnd, limit))
  ports.attach(new SerialPort(transmit))
  ports.attach(new DebugExit())
  ports.attach(new TestDevicePorts())
  ports.attach(new FirmwareConfiguration({ memoryBytes, cpus: 1 }))
}

function memoryRanges(lowEnd: number, highEnd: number): MemoryRange[] {
  const ranges: MemoryRange[] = [
    { start: 0, end: BIOS_DATA_AREA, type: 1 },
    { start: BIOS_DATA_AREA, end: VIDEO_MEMORY, type: 2 },
    { start: BIOS, end: MIB, type: 2 },
    { start: MIB, end: lowEnd, type: 1 },
  ]
  if (highEnd > 4 * GIB) ranges.push({ start: 4 * GIB, end: highEnd, type: 1 })
  return ranges
}

/** Puts the segments where they want to be, and the modules behind them. */
function placeImage(
  { memory }: Machine,
  { segments }: MultibootImage,
  { file, modules = [] }: GuestOptions,
  lowEnd: number,
): LoadedModule[] {
  const refuse = (what: string, address: number, size: number): GuestError =>
    new GuestError('GUEST_NO_ROOM', {
      file,
      expected: `memory for ${what}`,
      found: `0x${size.toString(16)} bytes at 0x${address.toString(16)}, and memory up to 0x${lowEnd.toString(16)}, without 0xa0000 to 0xfffff`,
      hint: 'give the guest more memory, or link it for memory that there is',
    })
  let end = MIB
  for (const { address, size, bytes } of segments) {
    const fits = address + size <= VIDEO_MEMORY || (address >= MIB && address + size <= lowEnd)
    if (!fits) throw refuse('a segment', address, size)
    memory.write(address, bytes)
    end = Math.max(end, address + size)
  }
  return modules.map(({ bytes, commandLine }) => {
    const moduleStart = Math.ceil(end / PAGE_SIZE) * PAGE_SIZE
    end = moduleStart + bytes.length
    if (end > lowEnd) throw refuse('a module', moduleStart, bytes.length)
    memory.write(moduleStart, bytes)
    return { start: moduleStart, end, commandLine }
  })
}

/** Puts the boot information into low memory that no segment takes. */
function placeInformation(
  { memory }: Machine,
  { segments }: MultibootImage,
  information: BootInformation,
  file: string,
): number {
  const size = encodeBootInformation(information, 0).length
  for (let at = INFORMATION_FROM; at + size <= BIOS_DATA_AREA; at += PAGE_SIZE) {
    const isFree = segments.every(
      (segment) => at + size <= segment.address || segment.address + segment.size <= at,
    )
    if (!isFree) continue
    memory.write(at, encodeBootInformation(information, at))
    return at
  }
  throw new GuestError('GUEST_NO_ROOM', {
    file,
    expected: `${size} bytes below 640 KiB for the boot information`,
    found: 'the image all over it',
  })
}

const FLAT_LIMIT = 0xffff_ffff
const FLAT: number =
  SegmentRights.Granularity |
  SegmentRights.Default32 |
  SegmentRights.Present |
  SegmentRights.CodeOrData |
  SegmentRights.ReadableOrWritable |
  SegmentRights.Accessed

function start(cpu: Cpu, entry: number, informationAt: number): void {
  cpu.writeCr0(Cr0.PE)
  const data = { selector: 0x10, base: 0n, limit: FLAT_LIMIT, rights: FLAT }
  for (const number of Object.values(Segment) as SegmentNumber[]) cpu.loadSegment(number, data)
  cpu.loadSegment(Segment.CS, { ...data, selector: 0x08, rights: FLAT | SegmentRights.Code })
  cpu.general64[Gpr.RAX] = BigInt(MULTIBOOT_BOOTLOADER_MAGIC)
  cpu.general64[Gpr.RBX] = BigInt(informationAt)
  cpu.rip = BigInt(entry)
}
