import type { PageRun, Recording, WrittenCall } from '@trapdoor/snapshot'
import {
  type Architecture,
  ARCHITECTURES,
  encodeMemoryMap,
  encodeUcs2,
  getNatural,
  Guid,
  isRuntime,
  type MemoryDescriptor,
  MemoryType,
  parseGuid,
  type RuntimeServiceName,
  VariableAttribute,
} from '@trapdoor/uefi'
import type { ServiceCaller } from '../application/hand-over.ts'
import type { EmulatedMachine } from '../qemu/machine.ts'
import { parseRegisters } from '../qemu/registers.ts'
import { buildTables, placeCaller } from './caller-memory.ts'
import { CallingMachine } from './calling-machine.ts'

/** Where the arguments of variable services are in scratch memory. */
const NAME = 0
const GUID = 0x800
const ATTRIBUTES = 0x810
const SIZE = 0x818
const DATA = 0x1000
/** Where a memory map is. */
const MAP = 0x1_0000

/** The variable that the calls make, change and delete is of nobody else. */
const OWN_GUID = '12345678-1234-5678-9abc-def011223344'
const { NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS, APPEND_WRITE } = VariableAttribute
const NV_BS_RT = NON_VOLATILE | BOOTSERVICE_ACCESS | RUNTIME_ACCESS
/** Both EFI_VARIABLE_ENHANCED_AUTHENTICATED_ACCESS and attributes that go with it: nothing that OVMF knows. */
const BAD_ATTRIBUTES = NV_BS_RT | 0x80
/** The distance of Linux's direct map: with four levels since 4.20, and on i386 where a process has 2 GiB (CONFIG_VMSPLIT_2G). */
const DIRECT_MAP = { x64: 0xffff_8880_0000_0000n, ia32: 0x8000_0000n } as const
const LINUX_STRIDE = 40

/** What recording needs to know of a machine whose firmware has let go. */
export interface RecordingSubject {
  readonly architecture: Architecture['name']
  readonly machine: EmulatedMachine
  readonly caller: ServiceCaller
  readonly memoryMap: readonly MemoryDescriptor[]
  readonly descriptorSize: number
  /** Address of EFI_RUNTIME_SERVICES. */
  readonly runtimeServices: number
  /** The map for SetVirtualAddressMap, in order. */
  readonly virtualMap: readonly MemoryDescriptor[]
}

const MEASURED: Recording['measured'] = {
  instructions:
    'TCG plugin, every instruction between the call and its return, SMM among them; a repeated one counts once for each iteration and once more where none is left',
  pages:
    'TCG plugin, loads and stores by linear and physical page, instructions by the linear page that they begin in',
  memory: 'runtime code and data, and scratch memory, saved before and after each call',
  io: 'trace events memory_region_ops_read and memory_region_ops_write of QEMU, of processors',
  tables:
    '4 GiB one to one, and each region of the virtual map; everything writable and executable',
}

/**
 * Calls a firmware on page tables of its own: all services at their physical addresses, SetVirtualAddressMap in variants of which each is undone, then for good, and all services again at virtual
 * addresses. The same calls, by the same names, as in the recordings made under a kernel.
 */
export async function recordCalls(subject: RecordingSubject): Promise<Recording> {
  const { architecture, machine, caller, memoryMap, virtualMap } = subject
  const memory = placeCaller(memoryMap)
  const tables = buildTables(memory, virtualMap, architecture)
  const calling = new CallingMachine({ ...subject, memory })
  await calling.start(tables.root, tables.pages)
  const registers = parseRegisters(await machine.gdb.monitor('info registers'))
  const recorder = new Recorder(subject, calling)
  await recorder.recordAll()
  return {
    registers,
    root: tables.root,
    tables: tables.pages,
    virtualMap,
    descriptorSize: subject.descriptorSize,
    caller,
    scratch: calling.scratch,
    stackTop: calling.stackTop,
    calls: recorder.calls,
    measured: MEASURED,
  }
}

class Recorder {
  readonly calls: WrittenCall[] = []
  readonly #subject: RecordingSubject
  readonly #calling: CallingMachine
  readonly #base: number

  constructor(subject: RecordingSubject, calling: CallingMachine) {
    this.#subject = subject
    this.#calling = calling
    this.#base = calling.scratch.address
  }

  async recordAll(): Promise<void> {
    await this.#services('phys')
    await this.#convertPointer('phys/ConvertPointer-before-SVAM')
    await this.#virtualAddressMaps()
    await this.#services('virt')
    await this.#convertPointer('virt/ConvertPointer-after-SVAM')
    await this.#setVirtualAddressMap('svam/second-call', this.#subject.virtualMap)
  }

  /** Every service that changes nothing for good, and variables that come and go. */
  async #services(mode: 'phys' | 'virt'): Promise<void> {
    const own = `HT${mode}`
    const set = (name: string, attributes: number, data: Uint8Array): Promise<WrittenCall> =>
      this.#setVariable(`${mode}/SetVariable-${name}`, own, attributes, data)
    const get = (name: string): Promise<WrittenCall> =>
      this.#getVariable(`${mode}/GetVariable-${name}`, own, OWN_GUID)
    const argument = this.#at(NAME)

    await this.#call(`${mode}/GetTime`, 'GetTime', [argument, this.#at(0x20)])
    await this.#call(`${mode}/GetWakeupTime`, 'GetWakeupTime', [
      argument,
      this.#at(1),
      this.#at(0x10),
    ])
    for (const name of ['BootOrder', 'SetupMode']) {
      await this.#getVariable(`${mode}/GetVariable-${name}`, name, Guid.GLOBAL_VARIABLE)
    }
    await this.#getVariable(`${mode}/GetVariable-notfound`, 'NoSuchVar', Guid.GLOBAL_VARIABLE)
    await this.#getVariable(`${mode}/GetVariable-toosmall`, 'Boot0000', Guid.GLOBAL_VARIABLE, 4)
    await this.#nextVariableNames(mode)
    const info = [argument, this.#at(8), this.#at(16)]
    await this.#call(`${mode}/QueryVariableInfo`, 'QueryVariableInfo', [BigInt(NV_BS_RT), ...info])
    await this.#call(`${mode}/QueryVariableInfo-bad`, 'QueryVariableInfo', [0n, ...info])
    await set('new', NV_BS_RT, counting(0, 16))
    await get('readback')
    await set('overwrite', NV_BS_RT, counting(16, 48))
    await get('readback2')
    await set('append', NV_BS_RT | APPEND_WRITE, Buffer.from('append!!'))
    await set('delete', NV_BS_RT, new Uint8Array(0))
    await this.#setVariable(`${mode}/SetVariable-badattr`, 'HTx', BAD_ATTRIBUTES, Buffer.from('x'))
    await this.#call(`${mode}/GetNextHighMonotonicCount`, 'GetNextHighMonotonicCount', [argument])
    const capsule = [0n, 0n, argument, this.#at(8)]
    await this.#call(`${mode}/QueryCapsuleCapabilities-null`, 'QueryCapsuleCapabilities', capsule)
    await this.#call(`${mode}/UpdateCapsule-null`, 'UpdateCapsule', [0n, 0n, 0n])
  }

  /** The first names, each found by the one before. */
  async #nextVariableNames(mode: 'phys' | 'virt'): Promise<void> {
    let name: Uint8Array = new Uint8Array(2)
    let guid: Uint8Array = new Uint8Array(16)
    for (let index = 0; index < 4; index++) {
      await this.#call(
        `${mode}/GetNextVariableName-${index}`,
        'GetNextVariableName',
        [this.#at(SIZE), this.#at(NAME), this.#at(GUID)],
        [this.#put(SIZE, word(1024n)), this.#put(NAME, name), this.#put(GUID, guid)],
      )
      name = upToNul(await this.#calling.read(this.#base + NAME, 1024))
      guid = await this.#calling.read(this.#base + GUID, 16)
    }
  }

  async #convertPointer(name: string): Promise<void> {
    const pointer = word(BigInt(this.#subject.runtimeServices))
    await this.#call(name, 'ConvertPointer', [0n, this.#at(0)], [this.#put(0, pointer)])
  }

  /** SetVirtualAddressMap with what it refuses and with what it takes, each undone but the last. */
  async #virtualAddressMaps(): Promise<void> {
    const { virtualMap } = this.#subject
    const moved = (place: (physical: bigint) => bigint): MemoryDescriptor[] =>
      virtualMap.map((each) => ({ ...each, virtualStart: place(BigInt(each.physicalStart)) }))
    await this.#undone(() =>
      this.#setVirtualAddressMap('svam/bad-version', virtualMap, { version: 2 }),
    )
    await this.#undone(() =>
      this.#setVirtualAddressMap('svam/bad-descsize', virtualMap, { said: 32 }),
    )
    await this.#undone(async () => {
      await this.#setVirtualAddressMap(
        'svam/identity',
        moved((physical) => physical),
      )
      await this.#call('svam/identity/GetTime', 'GetTime', [this.#at(0), this.#at(0x20)])
      await this.#getVariable('svam/identity/GetVariable', 'BootOrder', Guid.GLOBAL_VARIABLE)
    })
    await this.#undone(() =>
      this.#setVirtualAddressMap('svam/kernel-map-descsize40', virtualMap, {
        stride: LINUX_STRIDE,
      }),
    )
    await this.#undone(() =>
      this.#setVirtualAddressMap('svam/runtime-only', virtualMap.filter(isRuntime)),
    )
    await this.#undone(() =>
      this.#setVirtualAddressMap(
        'svam/direct-map-offset',
        moved((physical) => physical + DIRECT_MAP[this.#subject.architecture]),
      ),
    )
    const left = virtualMap.find(
      (each) => each.type === MemoryType.RuntimeServicesData && isRuntime(each),
    )
    if (left !== undefined) {
      await this.#undone(() =>
        this.#setVirtualAddressMap(
          `svam/missing-region-${left.physicalStart.toString(16)}`,
          virtualMap.filter((each) => each !== left),
        ),
      )
    }
    await this.#setVirtualAddressMap('svam/kernel-map', virtualMap)
  }

  /** Puts runtime memory back to what it was before `calls`. The last of them says so. */
  async #undone(calls: () => Promise<unknown>): Promise<void> {
    const before = await this.#calling.readRuntime()
    await calls()
    const restoredPages = await this.#calling.restoreRuntime(before)
    this.calls.push({ ...this.calls.pop()!, restored: true, restoredPages })
  }

  #setVirtualAddressMap(
    name: string,
    map: readonly MemoryDescriptor[],
    /** What is said otherwise than it is: the version; the descriptors' size; how far they are apart, which is then said as well. */
    {
      version = 1,
      stride = this.#subject.descriptorSize,
      said = stride,
    }: { readonly version?: number; readonly stride?: number; readonly said?: number } = {},
  ): Promise<WrittenCall> {
    const bytes = encodeMemoryMap(map, stride)
    const args = [bytes.length, said, version].map(BigInt)
    return this.#call(
      name,
      'SetVirtualAddressMap',
      [...args, this.#at(MAP)],
      [this.#put(MAP, bytes)],
    )
  }

  #getVariable(name: string, variable: string, guid: string, size = 4096): Promise<WrittenCall> {
    return this.#call(
      name,
      'GetVariable',
      [NAME, GUID, ATTRIBUTES, SIZE, DATA].map((offset) => this.#at(offset)),
      [
        this.#put(NAME, encodeUcs2(variable)),
        this.#put(GUID, parseGuid(guid)),
        this.#put(SIZE, word(BigInt(size))),
      ],
    )
  }

  #setVariable(
    name: string,
    variable: string,
    attributes: number,
    data: Uint8Array,
  ): Promise<WrittenCall> {
    return this.#call(
      name,
      'SetVariable',
      [this.#at(NAME), this.#at(GUID), BigInt(attributes), BigInt(data.length), this.#at(DATA)],
      [
        this.#put(NAME, encodeUcs2(variable)),
        this.#put(GUID, parseGuid(OWN_GUID)),
        this.#put(DATA, data),
      ],
    )
  }

  /** Calls a service where its table says, but for SetVirtualAddressMap and ConvertPointer: those stay where they are. */
  async #call(
    name: string,
    service: RuntimeServiceName,
    args: readonly bigint[],
    memory: readonly PageRun[] = [],
  ): Promise<WrittenCall> {
    const architecture = ARCHITECTURES[this.#subject.architecture]
    const { naturalBytes, tables } = architecture
    const slot = this.#subject.runtimeServices + tables.runtimeServicesTable[service]
    const bytes = await this.#calling.read(slot, naturalBytes)
    const functionAddress = getNatural(architecture, new DataView(bytes.buffer), 0)
    const call = await this.#calling.call({ name, service, functionAddress, args, memory })
    this.calls.push(call)
    return call
  }

  #at(offset: number): bigint {
    return BigInt(this.#base + offset)
  }

  #put(offset: number, bytes: Uint8Array): PageRun {
    return { address: this.#base + offset, bytes }
  }
}

function counting(from: number, end: number): Uint8Array {
  return Uint8Array.from({ length: end - from }, (_, index) => from + index)
}

function word(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, value, true)
  return bytes
}

/** The characters of a string with its NUL. */
function upToNul(bytes: Uint8Array): Uint8Array {
  for (let at = 0; at < bytes.length; at += 2) {
    if (bytes[at] === 0 && bytes[at + 1] === 0) return bytes.slice(0, at + 2)
  }
  return bytes
}
