import { type Cpu, type Machine, PageTableBuilder, phys, virt } from '@trapdoor/core'
import {
  type Architecture,
  ARCHITECTURES,
  argumentWords,
  type BootServiceName,
  decodeStatus,
  EfiStatus,
  efiStatusName,
  encodeMemoryMap,
  encodeUcs2,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
  parseGuid,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import {
  createFirmware,
  type Firmware,
  FirmwareError,
  type ModelledFirmwareOptions,
  type PoweredMachine,
  type Quirk,
} from '@trapdoor/firmware'

const WB = 0xfn
const { RUNTIME } = MemoryAttribute

function descriptor(
  type: number,
  start: number,
  pages: number,
  attribute: bigint,
): MemoryDescriptor {
  return { type, physicalStart: start, numberOfPages: pages, attribute, virtualStart: 0n }
}

/** A machine of 1 GiB with two regions each of runtime code and data, in the order of addresses. */
export const SMALL_MAP: readonly MemoryDescriptor[] = [
  descriptor(MemoryType.BootServicesCode, 0, 1, WB),
  descriptor(MemoryType.ConventionalMemory, 0x1000, 0x9f, WB),
  descriptor(MemoryType.ConventionalMemory, 0x10_0000, 0x3_0000, WB),
  descriptor(MemoryType.BootServicesData, 0x3010_0000, 0x4000, WB),
  descriptor(MemoryType.BootServicesCode, 0x3410_0000, 0x400, WB),
  descriptor(MemoryType.RuntimeServicesData, 0x3450_0000, 0x40, WB | RUNTIME),
  descriptor(MemoryType.RuntimeServicesCode, 0x3454_0000, 0x40, WB | RUNTIME),
  descriptor(MemoryType.ReservedMemoryType, 0x3458_0000, 0x80, WB),
  descriptor(MemoryType.ACPIReclaimMemory, 0x3460_0000, 0x10, WB),
  descriptor(MemoryType.ACPIMemoryNVS, 0x3461_0000, 0x10, WB),
  descriptor(MemoryType.RuntimeServicesCode, 0x3462_0000, 0x20, WB | RUNTIME),
  descriptor(MemoryType.RuntimeServicesData, 0x3464_0000, 0x60, WB | RUNTIME),
  descriptor(MemoryType.ConventionalMemory, 0x346a_0000, 0xb960, WB),
  descriptor(MemoryType.MemoryMappedIO, 0xffc0_0000, 0x400, 1n | RUNTIME),
]

/** Conventional memory that {@link Caller} keeps its arguments in. */
const SCRATCH = 0x20_0000n
const SCRATCH_BYTES = 0x10_0000
/** Where {@link Caller.enterVirtualMode} puts runtime memory. */
export const VIRTUAL_BASE = 0xffff_8800_0000_0000n

/** A variant on {@link SMALL_MAP}, unless `options` say otherwise. */
export function smallFirmware(
  quirks: readonly Quirk[] = [],
  options: Partial<Omit<ModelledFirmwareOptions, 'quirks'>> = {},
): Firmware {
  return createFirmware({ name: 'small', memoryMap: SMALL_MAP, ...options, quirks })
}

/** A loader, or a kernel, reduced to what tests need: it calls what the tables point to, on the tables that CR3 has. */
export class Caller {
  readonly machine: Machine
  readonly cpu: Cpu
  readonly architecture: Architecture
  readonly systemTable: bigint
  readonly imageHandle: bigint
  #next = SCRATCH

  constructor(
    powered: Omit<PoweredMachine, 'architecture'> & { readonly architecture?: Architecture },
  ) {
    this.machine = powered.machine
    this.architecture = powered.architecture ?? ARCHITECTURES.x64
    this.cpu = powered.machine.bootCpu
    this.systemTable = BigInt(powered.systemTable)
    this.imageHandle = powered.imageHandle
  }

  /** Zeroed scratch memory on an 8-byte boundary. */
  room(bytes: number): bigint {
    const at = this.#next
    this.#next += BigInt((bytes + 7) & ~7)
    this.cpu.writeBytes(at, new Uint8Array(bytes))
    return at
  }

  /** Scratch memory that holds `bytes`. */
  put(bytes: Uint8Array): bigint {
    const at = this.room(bytes.length)
    this.cpu.writeBytes(at, bytes)
    return at
  }

  /** Scratch memory that holds a string in UCS-2, with its NUL. */
  text(text: string): bigint {
    return this.put(encodeUcs2(text))
  }

  /** Scratch memory that holds a GUID. */
  guid(text: string): bigint {
    return this.put(parseGuid(text))
  }

  /** Scratch memory that holds a 64-bit number, whose low half is all of a UINTN on ia32. */
  number(value: bigint): bigint {
    const at = this.room(8)
    this.cpu.write64(at, value)
    return at
  }

  /** Where the system table says that the runtime services table is. */
  get runtimeTable(): bigint {
    return this.readNatural(
      this.systemTable + BigInt(this.architecture.tables.systemTable.RuntimeServices),
    )
  }

  /** A pointer or UINTN in memory. */
  readNatural(address: bigint): bigint {
    const { cpu } = this
    return this.architecture.naturalBytes === 8 ? cpu.read64(address) : BigInt(cpu.read32(address))
  }

  /** Calls a runtime service at the address that its table holds, and returns the status. */
  service(name: RuntimeServiceName, ...args: readonly bigint[]): bigint {
    const { [name]: offset } = this.architecture.tables.runtimeServicesTable
    return this.#call(this.runtimeTable + BigInt(offset), name, args)
  }

  /** Calls a boot service at the address that its table holds, and returns the status. */
  bootService(name: BootServiceName, ...args: readonly bigint[]): bigint {
    const { systemTable, bootServicesTable } = this.architecture.tables
    const table = this.readNatural(this.systemTable + BigInt(systemTable.BootServices))
    return this.#call(table + BigInt(bootServicesTable[name]), name, args)
  }

  /** Calls what a pointer in memory leads to. */
  #call(
    pointer: bigint,
    name: RuntimeServiceName | BootServiceName,
    args: readonly bigint[],
  ): bigint {
    const words = argumentWords(this.architecture, name, args)
    return decodeStatus(this.architecture, this.cpu.call(this.readNatural(pointer), ...words))
  }

  /** GetMemoryMap into a buffer of `bytes`, with everything that it hands back. */
  getMemoryMap(bytes = 0x4000): {
    status: bigint
    size: bigint
    key: bigint
    stride: bigint
    version: number
    map: Uint8Array
  } {
    const [size, key, stride, version] = [
      this.number(BigInt(bytes)),
      this.room(8),
      this.room(8),
      this.room(8),
    ]
    const buffer = this.room(bytes)
    const status = this.bootService('GetMemoryMap', size, buffer, key, stride, version)
    const written = this.cpu.read64(size)
    return {
      status,
      size: written,
      key: this.cpu.read64(key),
      stride: this.cpu.read64(stride),
      version: this.cpu.read32(version),
      map: status === 0n ? this.cpu.readBytes(buffer, Number(written)) : new Uint8Array(),
    }
  }

  /** ExitBootServices with the current map key. */
  exitBootServices(): bigint {
    return this.bootService('ExitBootServices', this.imageHandle, this.getMemoryMap().key)
  }

  /** SetVirtualAddressMap with a map of these descriptors, at a physical address. */
  setVirtualAddressMap(descriptors: readonly MemoryDescriptor[]): bigint {
    const map = this.put(encodeMemoryMap(descriptors, 48))
    return this.service('SetVirtualAddressMap', BigInt(descriptors.length * 48), 48n, 1n, map)
  }

  /** What {@link setVirtualAddressMap} gets to put runtime memory of `map` at a constant distance from where it is. */
  static runtimeMap(
    map: readonly MemoryDescriptor[],
    base: bigint = VIRTUAL_BASE,
  ): readonly MemoryDescriptor[] {
    return map
      .filter(({ attribute }) => (attribute & RUNTIME) !== 0n)
      .map((each) => Object.assign({}, each, { virtualStart: base + BigInt(each.physicalStart) }))
  }

  /**
   * Loads tables that map `map`'s runtime memory at `base`, and this caller's scratch memory, its stack and the system table where they
   * are. `identity` maps runtime memory at its physical addresses too.
   */
  useOwnTables(
    map: readonly MemoryDescriptor[],
    { base = VIRTUAL_BASE, identity = false }: { base?: bigint; identity?: boolean } = {},
  ): void {
    const flat = identity ? Caller.runtimeMap(map, 0n) : []
    this.mapRuntime([...Caller.runtimeMap(map, base), ...flat])
  }

  /** Loads tables that map each descriptor at its virtual address, and what {@link useOwnTables} maps for the caller itself. */
  mapRuntime(descriptors: readonly MemoryDescriptor[]): void {
    let frame = 0x4000
    const allocate = (): number => frame++
    const root = phys(allocate() * 4096)
    const { mode } = this.cpu
    const builder = new PageTableBuilder(this.machine.memory, root, allocate, { mode })
    const map = (start: bigint, physical: number, bytes: number): void => {
      builder.mapRange(virt(start), phys(physical), bytes, { executable: true, replace: true })
    }
    map(SCRATCH, Number(SCRATCH), SCRATCH_BYTES)
    for (const page of [this.systemTable & ~0xfffn, (this.cpu.rsp - 8n) & ~0xfffn]) {
      map(page, Number(page), 4096)
    }
    for (const { virtualStart, physicalStart, numberOfPages } of descriptors) {
      map(virtualStart, physicalStart, numberOfPages * 4096)
    }
    this.cpu.writeCr3(builder.root)
  }
}

/** A caller on a machine that was just powered on. */
export function boot(firmware: Firmware): Caller {
  return new Caller(firmware.powerOn())
}

/** A caller after ExitBootServices. Where that fails it is FIRMWARE_BAD_SETUP. */
export function bootToRuntime(firmware: Firmware): Caller {
  const caller = boot(firmware)
  const status = caller.exitBootServices()
  if (status !== EfiStatus.SUCCESS) {
    throw new FirmwareError('FIRMWARE_BAD_SETUP', {
      expected: 'ExitBootServices to succeed',
      found: efiStatusName(status),
      hint: 'boot() gives a caller that has not called it yet',
    })
  }
  return caller
}
