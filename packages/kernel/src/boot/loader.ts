import { type Cpu, type Machine, PAGE_SIZE_2M, phys, type PhysicalAddress } from '@trapdoor/core'
import {
  type Architecture,
  argumentWords,
  type BootServiceName,
  decodeMemoryMap,
  decodeStatus,
  descriptorEnd,
  EfiStatus,
  efiStatusName,
  isEfiError,
  type MemoryDescriptor,
  MemoryType,
} from '@trapdoor/uefi'
import { KernelError, KernelPanic } from '../error.ts'
import { readNatural } from '../efi/natural.ts'
import { e820FromEfi } from '../memory/e820.ts'
import {
  HAND_OFF_BYTES,
  KERNEL_FOOTPRINT_BYTES,
  KERNEL_IMAGE_BYTES,
  KERNEL_TEXT_BYTES,
} from '../memory/kernel-image.ts'
import { BOOT_PARAMS_BYTES, type BootParams, encodeBootParams } from './boot-params.ts'

/** What a kernel finds when its first instruction runs: the machine, and two physical addresses. */
export interface HandOff {
  readonly machine: Machine
  readonly imageBase: PhysicalAddress
  readonly bootParams: PhysicalAddress
  /** What the loader has put into memory beside the image and boot_params, such as an initrd: the kernel reserves it early. */
  readonly reserved?: readonly ByteRange[]
  /** Where the image of the real kernel lies that this one stands for: what overlaps it is never given back, either. */
  readonly realImage?: RealImage
}

/** The image of a real kernel, from _text up to _end, and of it .text and .rodata where they are known. Physical bytes. */
export interface RealImage extends ByteRange {
  readonly text?: ByteRange
  readonly rodata?: ByteRange
}

/** Physical bytes; `end` is exclusive. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/** A machine whose firmware has started an EFI application: what UEFI 2.3.1, 4.1 passes to it. */
export interface EfiApplication {
  readonly machine: Machine
  /** Physical address of the EFI system table. */
  readonly systemTable: number
  readonly imageHandle: bigint
  /** What the firmware is built for, and its loader with it. */
  readonly architecture: Architecture
}

/** Where distributions load a kernel at the earliest (CONFIG_PHYSICAL_START). */
const LOWEST_IMAGE = 0x100_0000
/** What the text of a kernel reads as: INT3, so that nobody takes it for a gate. */
const TEXT_PATTERN = -0x3333_3334

/** How a loader does its work. */
export interface LoaderHabits {
  /** Allocates a page when the map has been read, before ExitBootServices: the key is out of date then. */
  readonly allocatesLate?: boolean
}

/**
 * A boot loader: asks the firmware for its memory map, puts a kernel at the first place from 16 MiB on that is conventional memory, leaves boot services,
 * and writes boot_params. It allocates nothing, so that the kernel sees the map as it was. Throws KERNEL_NO_ROOM, and a
 * KernelPanic where the firmware does not let it go.
 */
export function loadKernel(
  application: EfiApplication,
  commandLine: string,
  { allocatesLate = false }: LoaderHabits = {},
): HandOff {
  const { machine } = application
  machine.log.era = 'boot loader'
  const firmware = new BootServices(application)
  const stackBuffer = machine.bootCpu.rsp - 0x1_0000n
  const first = firmware.memoryMap(stackBuffer, 0xf000)
  const place = placeKernel(first.descriptors)
  loadImage(machine, place)
  const handOff = place + KERNEL_IMAGE_BYTES
  const mapAddress = handOff + 2 * 4096
  const map = firmware.leave(BigInt(mapAddress), HAND_OFF_BYTES - 2 * 4096, first, () => {
    if (allocatesLate) firmware.allocatePage()
  })
  writeBootParams(machine, handOff, {
    efi: {
      architecture: application.architecture,
      systab: application.systemTable,
      memmap: mapAddress,
      memmapSize: map.bytes,
      memdescSize: map.stride,
      memdescVersion: map.version,
    },
    e820: e820FromEfi(map.descriptors),
    commandLine,
    setupData: 0,
  })
  machine.log.emit({
    kind: 'message',
    source: 'loader',
    text: `kernel at 0x${place.toString(16)}, command line "${commandLine}"`,
  })
  return { machine, imageBase: place, bootParams: phys(handOff) }
}

/** Fills the memory of a kernel's image: text, then zeros for data and bss. */
export function loadImage(machine: Machine, base: number): void {
  machine.memory.fill(base, base + KERNEL_TEXT_BYTES, TEXT_PATTERN)
  machine.memory.fill(base + KERNEL_TEXT_BYTES, base + KERNEL_IMAGE_BYTES, 0)
}

/** Writes boot_params and the command line to physical address `at`. */
export function writeBootParams(machine: Machine, at: number, params: BootParams): void {
  const bytes = encodeBootParams(params, at)
  if (bytes.length !== BOOT_PARAMS_BYTES) {
    throw new KernelError('KERNEL_BAD_HAND_OFF', {
      expected: `${BOOT_PARAMS_BYTES} bytes of boot parameters`,
      found: String(bytes.length),
    })
  }
  machine.memory.write(at, bytes)
}

interface LoadedMap {
  readonly descriptors: readonly MemoryDescriptor[]
  readonly key: bigint
  readonly bytes: number
  readonly stride: number
  readonly version: number
}

/** The boot services that a loader needs, called through their table on the firmware's own page tables. */
class BootServices {
  readonly #cpu: Cpu
  readonly #architecture: Architecture
  readonly #table: bigint
  readonly #imageHandle: bigint

  constructor(application: EfiApplication) {
    this.#cpu = application.machine.bootCpu
    this.#imageHandle = application.imageHandle
    this.#architecture = application.architecture
    const { systemTable } = this.#architecture.tables
    this.#table = this.#readNatural(BigInt(application.systemTable + systemTable.BootServices))
  }

  /** GetMemoryMap() into `capacity` bytes at `buffer`. Where the key is that of `known`, so is the map. */
  memoryMap(buffer: bigint, capacity: number, known?: LoadedMap): LoadedMap {
    const cpu = this.#cpu
    const size = cpu.rsp - 0x100n
    const [key, stride, version] = [size + 8n, size + 16n, size + 24n]
    cpu.write64(size, BigInt(capacity))
    // The call's own frame comes below the variables.
    cpu.rsp -= 0x200n
    const status = this.#call('GetMemoryMap', size, buffer, key, stride, version)
    cpu.rsp += 0x200n
    if (isEfiError(status)) throw refusedBy('GetMemoryMap', status)
    const bytes = Number(this.#readNatural(size))
    const descriptorSize = Number(this.#readNatural(stride))
    const mapKey = this.#readNatural(key)
    return {
      descriptors:
        known?.key === mapKey
          ? known.descriptors
          : decodeMemoryMap(cpu.readBytes(buffer, bytes), descriptorSize),
      key: mapKey,
      bytes,
      stride: descriptorSize,
      version: cpu.read32(version),
    }
  }

  /** AllocatePages() of one page of loader data, wherever there is one. */
  allocatePage(): void {
    const cpu = this.#cpu
    const place = cpu.rsp - 0x100n
    cpu.rsp -= 0x200n
    const status = this.#call('AllocatePages', 0n, BigInt(MemoryType.LoaderData), 1n, place)
    cpu.rsp += 0x200n
    if (isEfiError(status)) throw refusedBy('AllocatePages', status)
  }

  /** ExitBootServices() with the map at `buffer`; once more where the firmware changed the map meanwhile, as the kernel's stub does. */
  leave(buffer: bigint, capacity: number, known: LoadedMap, beforeExit: () => void): LoadedMap {
    let map = this.memoryMap(buffer, capacity, known)
    beforeExit()
    let status = this.#call('ExitBootServices', this.#imageHandle, map.key)
    if (status === EfiStatus.INVALID_PARAMETER) {
      map = this.memoryMap(buffer, capacity, known)
      status = this.#call('ExitBootServices', this.#imageHandle, map.key)
    }
    if (isEfiError(status)) throw refusedBy('ExitBootServices', status)
    return map
  }

  /** Calls a boot service at the address that the table holds. Returns its status. */
  #call(service: BootServiceName, ...args: readonly bigint[]): bigint {
    const { [service]: offset } = this.#architecture.tables.bootServicesTable
    const address = this.#readNatural(this.#table + BigInt(offset))
    const words = argumentWords(this.#architecture, service, args)
    return decodeStatus(this.#architecture, this.#cpu.call(address, ...words))
  }

  /** A pointer or UINTN. */
  #readNatural(address: bigint): bigint {
    return readNatural(this.#architecture, this.#cpu, address)
  }
}

function placeKernel(descriptors: readonly MemoryDescriptor[]): PhysicalAddress {
  const free = descriptors
    .filter((descriptor) => descriptor.type === MemoryType.ConventionalMemory)
    .toSorted((a, b) => a.physicalStart - b.physicalStart)
  let start = 0
  let end = 0
  for (const descriptor of free) {
    if (descriptor.physicalStart !== end) start = descriptor.physicalStart
    end = descriptorEnd(descriptor)
    const base = Math.ceil(Math.max(start, LOWEST_IMAGE) / PAGE_SIZE_2M) * PAGE_SIZE_2M
    if (base + KERNEL_FOOTPRINT_BYTES <= end) return phys(base)
  }
  throw new KernelError('KERNEL_NO_ROOM', {
    expected: `${KERNEL_FOOTPRINT_BYTES} bytes of conventional memory, 2 MiB aligned, from 16 MiB on`,
    found: `none in ${descriptors.length} descriptors`,
    hint: 'is the map complete?',
  })
}

/** What the stub says when it gives up (efi_main() of arch/x86/boot/compressed/eboot.c). */
function refusedBy(service: string, status: bigint): KernelPanic {
  return new KernelPanic(`exit_boot() failed! ${service} returned ${efiStatusName(status)}`)
}
