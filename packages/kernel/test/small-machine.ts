import {
  type Cpu,
  type CpuFeatures,
  type FrameOwner,
  type GateCall,
  Machine,
  NEHALEM,
  PAGE_SIZE_2M,
  PageTableBuilder,
  phys,
  virt,
} from '@trapdoor/core'
import {
  type Architecture,
  BOOT_SERVICES_TABLE_SIGNATURE,
  BOOT_SERVICES_TABLE_SIZE,
  BootServicesTable,
  decodeMemoryMap,
  EfiStatus,
  encodeConfigTable,
  encodeMemoryMap,
  encodeTableHeader,
  encodeUcs2,
  Guid,
  isRuntime,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
  RUNTIME_SERVICES,
  RUNTIME_SERVICES_TABLE_SIGNATURE,
  RUNTIME_SERVICES_TABLE_SIZE,
  type RuntimeServiceName,
  RuntimeServicesTable,
  SYSTEM_TABLE_SIGNATURE,
  SYSTEM_TABLE_SIZE,
  SystemTable,
  X64,
} from '@trapdoor/uefi'

/** What this firmware's maps are apart: edk2's stride, not the structure's size. */
export const STRIDE = 48
const WB = 0xfn
export const RUNTIME_WB: bigint = WB | MemoryAttribute.RUNTIME
export const RUNTIME_UC: bigint = MemoryAttribute.UC | MemoryAttribute.RUNTIME

/** A descriptor from its first byte up to `end`, which is exclusive. */
export function descriptor(
  type: number,
  start: number,
  end: number,
  attribute: bigint = WB,
): MemoryDescriptor {
  return {
    type,
    physicalStart: start,
    virtualStart: 0n,
    numberOfPages: (end - start) / 4096,
    attribute,
  }
}

/** End of the RAM of {@link MAP}: neither 2 MiB aligned nor a power of two. */
export const RAM_END = 0x0ff9_7000
export const RUNTIME_DATA = 0x0840_0000
export const RUNTIME_CODE = 0x0841_0000
export const RUNTIME_CODE_END = 0x0842_0000
export const FLASH = 0xffc0_0000
const BOOT_DATA = 0x0800_0000

/** 256 MiB of RAM with one region each of runtime data and code, and a flash chip below 4 GiB. */
export const MAP: readonly MemoryDescriptor[] = [
  descriptor(MemoryType.BootServicesCode, 0, 0x1000),
  descriptor(MemoryType.ConventionalMemory, 0x1000, 0xa_0000),
  descriptor(MemoryType.ConventionalMemory, 0x10_0000, BOOT_DATA),
  descriptor(MemoryType.BootServicesData, BOOT_DATA, RUNTIME_DATA),
  descriptor(MemoryType.RuntimeServicesData, RUNTIME_DATA, RUNTIME_CODE, RUNTIME_WB),
  descriptor(MemoryType.RuntimeServicesCode, RUNTIME_CODE, RUNTIME_CODE_END, RUNTIME_WB),
  descriptor(MemoryType.ConventionalMemory, RUNTIME_CODE_END, RAM_END),
  descriptor(MemoryType.MemoryMappedIO, FLASH, 2 ** 32, RUNTIME_UC),
]

/** Where this firmware has what, in bytes. */
export const SYSTEM_TABLE: number = RUNTIME_DATA + 0x80
export const RUNTIME_TABLE: number = RUNTIME_DATA + 0x100
export const VENDOR: number = RUNTIME_DATA + 0x200
export const CONFIGURATION_TABLE: number = RUNTIME_DATA + 0x300
export const SMBIOS: number = RUNTIME_DATA + 0x400
const IMAGE_HANDLE = 0x7ab1en
const BOOT_TABLE = BOOT_DATA
const STACK_TOP = BOOT_DATA + 0x10_0000
const PAGE_TABLES = BOOT_DATA + 0x20_0000
const OWNER: FrameOwner = { kind: 'firmware', name: 'runtime services' }

/** Where a service's gate is. */
export function gateOf(service: RuntimeServiceName): number {
  return RUNTIME_CODE + RUNTIME_SERVICES.indexOf(service) * 8
}

/** A call that arrived at a runtime service. */
interface ArrivedCall {
  readonly service: RuntimeServiceName
  readonly cpu: number
  readonly rip: bigint
  readonly args: readonly bigint[]
  readonly cr3: number
  readonly interruptFlag: boolean
}

type Service = (call: GateCall) => bigint

export interface SmallMachineOptions {
  readonly map?: readonly MemoryDescriptor[]
  readonly cpus?: number
  readonly features?: CpuFeatures
  /** What services do instead of answering EFI_SUCCESS. */
  readonly services?: Partial<Record<RuntimeServiceName, Service>>
  /** How often ExitBootServices finds that the map has changed since it was asked for. */
  readonly staleKeys?: number
  readonly getMemoryMapStatus?: bigint
  readonly vendor?: string
  readonly smbios?: bigint
}

/** A machine with a firmware of nothing but tables and gates, as a boot loader finds it. */
export interface SmallMachine {
  readonly machine: Machine
  readonly systemTable: number
  readonly imageHandle: bigint
  readonly architecture: Architecture
  /** Every call of a runtime service so far. */
  readonly calls: readonly ArrivedCall[]
  /** MapKey of every ExitBootServices so far. */
  readonly exits: readonly bigint[]
}

export function smallMachine(options: SmallMachineOptions = {}): SmallMachine {
  const machine = new Machine({
    cpus: options.cpus ?? 1,
    features: options.features ?? NEHALEM,
  })
  const calls: ArrivedCall[] = []
  const exits: bigint[] = []
  machine.memory.owners.set(RUNTIME_DATA / 4096, RUNTIME_CODE_END / 4096, OWNER)
  writeTables(machine, options)
  for (const service of RUNTIME_SERVICES) {
    const run: Service = (call) => {
      const { cpu, rip, args } = call
      const { id, cr3, interruptFlag } = cpu
      calls.push({ service, cpu: id, rip, args, cr3, interruptFlag })
      const answer = options.services?.[service] ?? (service === CONVERTING ? convertTables : ok)
      return answer(call)
    }
    machine.memory.write(gateOf(service), machine.gates.bind({ name: service, image: 'Tiny', run }))
  }
  bindBootServices(machine, options, exits)
  mapOneToOne(machine)
  return {
    machine,
    systemTable: SYSTEM_TABLE,
    imageHandle: IMAGE_HANDLE,
    architecture: X64,
    calls,
    exits,
  }
}

const CONVERTING = 'SetVirtualAddressMap'
const ok: Service = () => EfiStatus.SUCCESS

/** What SetVirtualAddressMap does to the tables: twelve functions and three pointers become virtual. */
export function convertTables({ cpu, args }: GateCall): bigint {
  const [size, stride, , address] = args as [bigint, bigint, bigint, bigint]
  const map = decodeMemoryMap(cpu.readBytes(address, Number(size)), Number(stride)).filter(
    isRuntime,
  )
  const convert = (at: number): void => {
    const pointer = cpu.read64(BigInt(at))
    const region = map.find(
      (each) =>
        pointer >= BigInt(each.physicalStart) &&
        pointer < BigInt(each.physicalStart + each.numberOfPages * 4096),
    )
    if (region === undefined) return
    cpu.write64(BigInt(at), pointer - BigInt(region.physicalStart) + region.virtualStart)
  }
  for (const service of RUNTIME_SERVICES) {
    if (service !== CONVERTING && service !== 'ConvertPointer') {
      convert(RUNTIME_TABLE + RuntimeServicesTable[service])
    }
  }
  convert(SYSTEM_TABLE + SystemTable.FirmwareVendor)
  convert(SYSTEM_TABLE + SystemTable.RuntimeServices)
  convert(SYSTEM_TABLE + SystemTable.ConfigurationTable)
  return EfiStatus.SUCCESS
}

function writeTables(machine: Machine, options: SmallMachineOptions): void {
  const { memory } = machine
  const pointer = (at: number, value: number): void => memory.write64(at, BigInt(value))
  const header = (at: number, signature: bigint, headerSize: number): void =>
    memory.write(at, encodeTableHeader({ signature, revision: 0x2_0046, headerSize }))
  header(SYSTEM_TABLE, SYSTEM_TABLE_SIGNATURE, SYSTEM_TABLE_SIZE)
  pointer(SYSTEM_TABLE + SystemTable.FirmwareVendor, VENDOR)
  pointer(SYSTEM_TABLE + SystemTable.RuntimeServices, RUNTIME_TABLE)
  pointer(SYSTEM_TABLE + SystemTable.BootServices, BOOT_TABLE)
  pointer(SYSTEM_TABLE + SystemTable.NumberOfTableEntries, 2)
  pointer(SYSTEM_TABLE + SystemTable.ConfigurationTable, CONFIGURATION_TABLE)
  header(RUNTIME_TABLE, RUNTIME_SERVICES_TABLE_SIGNATURE, RUNTIME_SERVICES_TABLE_SIZE)
  for (const service of RUNTIME_SERVICES) {
    pointer(RUNTIME_TABLE + RuntimeServicesTable[service], gateOf(service))
  }
  header(BOOT_TABLE, BOOT_SERVICES_TABLE_SIGNATURE, BOOT_SERVICES_TABLE_SIZE)
  memory.write(VENDOR, encodeUcs2(options.vendor ?? 'Tiny Firmware'))
  memory.write(SMBIOS, new TextEncoder().encode('_SM_'))
  memory.write(
    CONFIGURATION_TABLE,
    encodeConfigTable([
      { guid: Guid.ACPI_20, table: 0x0ff9_7014n },
      { guid: Guid.SMBIOS, table: options.smbios ?? BigInt(SMBIOS) },
    ]),
  )
}

function bindBootServices(machine: Machine, options: SmallMachineOptions, exits: bigint[]): void {
  const map = encodeMemoryMap(options.map ?? MAP, STRIDE)
  let key = 0x1ddn
  let stale = options.staleKeys ?? 0
  const services: Partial<Record<keyof typeof BootServicesTable, Service>> = {
    GetMemoryMap: ({ cpu, args }) => {
      const [size, buffer, mapKey, stride, version] = args as [
        bigint,
        bigint,
        bigint,
        bigint,
        bigint,
      ]
      const room = cpu.read64(size)
      cpu.write64(size, BigInt(map.length))
      if (room < BigInt(map.length)) return EfiStatus.BUFFER_TOO_SMALL
      cpu.writeBytes(buffer, map)
      cpu.write64(mapKey, key)
      cpu.write64(stride, BigInt(STRIDE))
      cpu.write32(version, 1)
      return options.getMemoryMapStatus ?? EfiStatus.SUCCESS
    },
    ExitBootServices: ({ args }) => {
      exits.push(args[1]!)
      if (stale-- > 0) key++
      return args[1] === key ? EfiStatus.SUCCESS : EfiStatus.INVALID_PARAMETER
    },
  }
  for (const [index, [name, run]] of Object.entries(services).entries()) {
    const gate = BOOT_TABLE + 0x800 + index * 8
    machine.memory.write(gate, machine.gates.bind({ name, image: 'Core', run }))
    const offset = BootServicesTable[name as keyof typeof BootServicesTable]
    machine.memory.write64(BOOT_TABLE + offset, BigInt(gate))
  }
}

/** The first 4 GiB 1:1 and executable, as firmware boots. */
function mapOneToOne(machine: Machine): void {
  let frame = PAGE_TABLES / 4096
  const builder = new PageTableBuilder(machine.memory, phys(frame++ * 4096), () => frame++)
  builder.mapRange(virt(0), phys(0), 2 ** 32, { executable: true, largestPage: PAGE_SIZE_2M })
  for (const cpu of machine.cpus) {
    cpu.writeCr3(builder.root)
    cpu.rsp = BigInt(STACK_TOP)
  }
  machine.bootCpu.interruptFlag = true
}

/** A NUL-terminated UCS-2 string as a service finds it. */
export function readString(cpu: Cpu, address: bigint): string {
  let text = ''
  for (let at = address; ; at += 2n) {
    const character = cpu.read16(at)
    if (character === 0) return text
    text += String.fromCharCode(character)
  }
}
