import { PAGE_SIZE } from '@trapdoor/core'
import {
  COMPARED_SCRATCH,
  type PageRun,
  type WordChange,
  type WrittenCall,
} from '@trapdoor/snapshot'
import {
  type Architecture,
  argumentWords,
  IA32,
  type MemoryDescriptor,
  MemoryType,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import type { ServiceCaller } from '../application/hand-over.ts'
import { CaptureError } from '../error.ts'
import type { EmulatedMachine } from '../qemu/machine.ts'
import { type CallerMemory, SCRATCH_PAGES } from './caller-memory.ts'
import { DeviceLogFile } from './device-log.ts'
import { PluginOutput } from './trace-plugin.ts'

const SCRATCH_BYTES = SCRATCH_PAGES * PAGE_SIZE
/** Below the end of scratch memory: where the stack begins, and how much of it the caller has used. */
const STACK_TOP = SCRATCH_BYTES - 0x100
const CALLER_FRAME = 0x80
/** Interrupts off; the bit that is always set, and SF. */
const RFLAGS = 0x82n
/** The general registers that are not given a value. */
const CLEARED = ['rax', 'rbx', 'rbp', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const
/** __efi_call() gets the arguments as functions of Linux do: the function's address, and four of them; a fifth where it has one. */
const ARGUMENT_REGISTERS = ['rsi', 'rdx', 'rcx', 'r8', 'r9'] as const

/** How many of the registers that are cleared, and of those that hold arguments, 32-bit code has. */
const GENERAL_32 = 3
const GENERAL_ARGUMENTS = 3

/** What a call is asked to do. */
export interface Call {
  readonly name: string
  readonly service: RuntimeServiceName
  readonly functionAddress: bigint
  readonly args: readonly bigint[]
  /** What the caller has in memory for it; the rest of scratch memory is zero. */
  readonly memory: readonly PageRun[]
}

/** What calls are made with. */
export interface CallingSetup {
  readonly architecture: Architecture['name']
  readonly machine: EmulatedMachine
  readonly caller: ServiceCaller
  readonly memory: CallerMemory
  readonly memoryMap: readonly MemoryDescriptor[]
}

/** A machine on which runtime services are called, and everything that they do is taken down. */
export class CallingMachine {
  readonly scratch: { readonly address: number; readonly bytes: number }
  readonly stackTop: number
  readonly #architecture: Architecture['name']
  readonly #machine: EmulatedMachine
  readonly #caller: ServiceCaller
  readonly #regions: readonly MemoryDescriptor[]
  readonly #devices: DeviceLogFile
  readonly #plugin: PluginOutput

  constructor({ architecture, machine, caller, memory, memoryMap }: CallingSetup) {
    this.#architecture = architecture
    this.#machine = machine
    this.#caller = caller
    this.scratch = { address: memory.scratch, bytes: SCRATCH_BYTES }
    this.stackTop = memory.scratch + STACK_TOP
    this.#regions = memoryMap.filter(
      ({ type }) =>
        type === MemoryType.RuntimeServicesCode || type === MemoryType.RuntimeServicesData,
    )
    this.#devices = new DeviceLogFile(machine.directory)
    this.#plugin = new PluginOutput(machine.directory)
  }

  /** To be called once, before the first call: gets the machine onto the caller's page tables. */
  async start(root: number, tables: readonly PageRun[]): Promise<void> {
    const { gdb } = this.#machine
    for (const { address, bytes } of tables) await gdb.writeMemory(BigInt(address), bytes)
    await gdb.writeRegister('cr3', BigInt(root))
    await gdb.setBreakpoint(BigInt(this.#caller.done))
    await this.#devices.start(gdb)
  }

  /** Runtime code and data, region by region. */
  async readRuntime(): Promise<readonly Uint8Array[]> {
    const regions: Uint8Array[] = []
    for (const { physicalStart, numberOfPages } of this.#regions) {
      regions.push(await this.#machine.readPhysical(physicalStart, numberOfPages))
    }
    return regions
  }

  /** Makes runtime memory what it was. Returns how many pages that were. */
  async restoreRuntime(before: readonly Uint8Array[]): Promise<number> {
    const now = await this.readRuntime()
    let pages = 0
    for (const [index, { physicalStart }] of this.#regions.entries()) {
      const [wanted, found] = [before[index]!, now[index]!]
      for (let at = 0; at < wanted.length; at += PAGE_SIZE) {
        const page = wanted.subarray(at, at + PAGE_SIZE)
        if (Buffer.compare(page, found.subarray(at, at + PAGE_SIZE)) === 0) continue
        await this.#machine.gdb.writeMemory(BigInt(physicalStart + at), page)
        pages++
      }
    }
    return pages
  }

  /** Physical memory. */
  read(address: number, length: number): Promise<Uint8Array> {
    return this.#machine.gdb.readMemory(BigInt(address), length)
  }

  /** Makes a call. Throws CAPTURE_PROTOCOL where the machine stops elsewhere than behind it. */
  async call(call: Call): Promise<WrittenCall> {
    const { gdb } = this.#machine
    await this.#prepareMemory(call.memory)
    const stack = await this.#prepareRegisters(call)
    const runtime = await this.readRuntime()
    const scratch = await this.#readScratch()
    const { reason } = await gdb.run()
    const place = await gdb.readRegister('rip')
    if (place !== BigInt(this.#caller.done)) {
      throw new CaptureError('CAPTURE_PROTOCOL', {
        expected: `${call.name} to come back`,
        found: `that the machine stopped at 0x${place.toString(16)} (${reason})`,
      })
    }
    const { counts, pages } = await this.#plugin.next()
    return {
      ...call,
      stack: BigInt(stack),
      status: await gdb.readRegister('rax'),
      runtimeChanges: this.#runtimeChanges(runtime, await this.readRuntime()),
      scratchChanges: changedWords(scratch, await this.#readScratch(), this.scratch.address),
      devices: await this.#devices.next(),
      counts,
      pages,
      restored: false,
      restoredPages: undefined,
    }
  }

  async #prepareMemory(memory: readonly PageRun[]): Promise<void> {
    const { gdb } = this.#machine
    await gdb.writeMemory(BigInt(this.scratch.address), new Uint8Array(this.scratch.bytes))
    for (const { address, bytes } of memory) await gdb.writeMemory(BigInt(address), bytes)
  }

  /** Returns where the stack begins: in 32-bit code that is where the arguments are. */
  async #prepareRegisters({ service, functionAddress, args }: Call): Promise<number> {
    const { gdb } = this.#machine
    const is32Bit = this.#architecture === 'ia32'
    const stack = this.stackTop - CALLER_FRAME
    for (const name of is32Bit ? CLEARED.slice(0, GENERAL_32) : CLEARED) {
      await gdb.writeRegister(name, 0n)
    }
    for (const [index, name] of ARGUMENT_REGISTERS.entries()) {
      if (is32Bit && index >= GENERAL_ARGUMENTS) break
      await gdb.writeRegister(name, is32Bit ? 0n : (args[index] ?? 0n))
    }
    if (is32Bit) {
      const words = argumentWords(IA32, service, args)
      const bytes = new Uint8Array(Uint32Array.from(words, Number).buffer)
      await gdb.writeMemory(BigInt(stack), bytes)
    }
    await gdb.writeRegister('rdi', functionAddress)
    await gdb.writeRegister('rsp', BigInt(stack))
    await gdb.writeRegister('eflags', RFLAGS)
    await gdb.writeRegister('rip', BigInt(this.#caller.begin))
    return stack
  }

  #readScratch(): Promise<Uint8Array> {
    return this.#machine.readPhysical(this.scratch.address, COMPARED_SCRATCH / PAGE_SIZE)
  }

  #runtimeChanges(before: readonly Uint8Array[], after: readonly Uint8Array[]): WordChange[] {
    return this.#regions.flatMap(({ physicalStart }, index) =>
      changedWords(before[index]!, after[index]!, physicalStart),
    )
  }
}

/** The words of eight bytes that are not the same, of memory from `address` on. */
function changedWords(before: Uint8Array, after: Uint8Array, address: number): WordChange[] {
  if (Buffer.compare(before, after) === 0) return []
  const [old, fresh] = [before, after].map(
    ({ buffer, byteOffset, length }) => new DataView(buffer, byteOffset, length),
  )
  const changes: WordChange[] = []
  for (let at = 0; at < before.length; at += 8) {
    const [was, is] = [old!.getBigUint64(at, true), fresh!.getBigUint64(at, true)]
    if (was !== is) changes.push({ address: address + at, before: was, after: is })
  }
  return changes
}
