import {
  CpuException,
  Gpr,
  type Machine,
  MachineReset,
  ParallelFlash,
  QEMU_TCG,
  Rflags,
} from '@trapdoor/core'
import { Interpreter, MissingInstruction } from '@trapdoor/cpu'
import { loadMachine } from '@trapdoor/firmware'
import {
  type DeviceAccess,
  type FirmwareImage,
  type FirmwareSnapshot,
  readObservedSnapshot,
  readRecordedCalls,
  type RecordedCall,
  type RecordedCalls,
} from '@trapdoor/snapshot'
import {
  argumentWords,
  descriptorEnd,
  IA32,
  type MemoryDescriptor,
  MemoryType,
} from '@trapdoor/uefi'
import { compareNumbers, type Difference, hex } from './difference.ts'
import { InstructionTrace } from './instruction-trace.ts'
import { compareChanges, MemoryImage, type MemoryRegion } from './memory-changes.ts'
import {
  DeviceLog,
  devicePages,
  RecordedFlash,
  RecordedPorts,
  RecordedRegisters,
} from './recorded-devices.ts'

/** How far a call could be replayed. */
export type Extent =
  /** All of it. */
  | 'whole'
  /** All but what it did in system-management mode, which was taken from the recording. */
  | 'outside of SMM'
  /** Nothing: it goes to system-management mode more than once, and what it finds in between was not recorded. */
  | 'not'

/** A recorded call, and what became of it. */
export interface ReplayedCall {
  readonly name: string
  readonly extent: Extent
  /** Instructions that were executed. */
  readonly instructions: number
  readonly differences: readonly Difference[]
}

/**
 * Runs the calls that were recorded in a folder again, one after the other, on a machine that begins as theirs did, and compares each with its recording: status, every word of runtime and scratch memory, every access to a
 * device in order, instructions, loads, stores, and every page that was touched. Throws a SnapshotError for a folder that cannot be used.
 */
export function* replayFolder(path: string): Generator<ReplayedCall> {
  const replay = new Replay(readObservedSnapshot(path), readRecordedCalls(path))
  for (const call of replay.recorded.calls) yield replay.run(call)
}

/** Where a call returns to: code of a kernel, which is not there and is not needed. */
const RETURN_ADDRESS = 0xffff_ffff_8108_b960n
/** RFLAGS of the recordings: interrupts off. */
const INTERRUPTS_OFF: number = Rflags.Fixed | Rflags.SF

function extentOf({ smis }: DeviceLog): Extent {
  if (smis === 0) return 'whole'
  return smis === 1 ? 'outside of SMM' : 'not'
}

/** Whether an error is an end that a call can come to, rather than a mistake here. */
function isMachineEnd(error: unknown): error is Error {
  return (
    error instanceof CpuException ||
    error instanceof MachineReset ||
    error instanceof MissingInstruction
  )
}

/** Runtime code and data, in the order of the memory map. */
function runtimeRegions(memoryMap: readonly MemoryDescriptor[]): MemoryRegion[] {
  return memoryMap
    .filter(
      ({ type }) =>
        type === MemoryType.RuntimeServicesCode || type === MemoryType.RuntimeServicesData,
    )
    .map((each) => ({
      address: each.physicalStart,
      bytes: descriptorEnd(each) - each.physicalStart,
    }))
}

/** The machine of a recording. */
class Replay {
  readonly recorded: RecordedCalls
  readonly #architecture: FirmwareSnapshot['architecture']
  readonly #machine: Machine
  readonly #interpreter: Interpreter = new Interpreter()
  readonly #ports: RecordedPorts = new RecordedPorts()
  readonly #flash: RecordedFlash | undefined
  readonly #runtime: readonly MemoryRegion[]
  readonly #images: readonly FirmwareImage[]
  /** What runtime memory was before the last call of SetVirtualAddressMap. */
  #beforeChange: MemoryImage | undefined

  constructor(snapshot: FirmwareSnapshot, recorded: RecordedCalls) {
    this.recorded = recorded
    const { architecture, flash, la57, memoryMap, images } = snapshot
    this.#architecture = architecture
    // The map, the tables of the kernel and its processor are those of the moment when the calls began; the flash is one that is listened to.
    this.#machine = loadMachine(
      {
        ...snapshot,
        flash: undefined,
        pages: [...snapshot.pages, ...recorded.tables],
        cpu: recorded.cpu,
      },
      { features: { ...QEMU_TCG, la57 }, executor: this.#interpreter },
    )
    const { memory, ports } = this.#machine
    ports.attach(this.#ports)
    if (flash !== undefined) {
      const { address: start, contents } = flash
      memory.write(start, contents)
      const device = new ParallelFlash(memory, { start, end: start + contents.length })
      this.#flash = new RecordedFlash(device, this.#ports)
      memory.attachDevice(this.#flash)
    }
    const accesses = recorded.calls.flatMap(({ devices }) => devices)
    for (const page of devicePages(accesses, this.#flash)) {
      memory.attachDevice(new RecordedRegisters(page, this.#ports))
    }
    this.#runtime = runtimeRegions(memoryMap)
    this.#images = images
  }

  /** Runs a call and compares it. The machine is then as it was recorded, whatever happened. */
  run(call: RecordedCall): ReplayedCall {
    const { memory, bootCpu: cpu } = this.#machine
    const { scratch, comparedScratch } = this.recorded
    memory.write(scratch.address, new Uint8Array(scratch.bytes))
    for (const { address, bytes } of call.memory) memory.write(address, bytes)
    const runtime = new MemoryImage(memory, this.#runtime)
    const scratchRegion = { address: scratch.address, bytes: comparedScratch }
    const scratchMemory = new MemoryImage(memory, [scratchRegion])
    if (call.service === 'SetVirtualAddressMap') this.#beforeChange = runtime

    const log = new DeviceLog(call.devices)
    const extent = extentOf(log)
    const before = cpu.instructions
    const differences = extent === 'not' ? [] : this.#execute(call, { log, extent, runtime })
    const found = [
      ...compareChanges('runtime memory', call.runtimeChanges, runtime.changes(memory)),
      ...compareChanges('scratch memory', call.scratchChanges, scratchMemory.changes(memory)),
    ]
    this.#settle(call, { log, runtime, isAsRecorded: found.length === 0 })
    return {
      name: call.name,
      extent,
      instructions: cpu.instructions - before,
      differences: extent === 'not' ? [] : [...differences, ...found],
    }
  }

  /** Carries out the call, as Linux does. Returns what was not as recorded, but for memory. */
  #execute(
    call: RecordedCall,
    from: { readonly log: DeviceLog; readonly extent: Extent; readonly runtime: MemoryImage },
  ): Difference[] {
    const { log, extent, runtime } = from
    const { bootCpu: cpu } = this.#machine
    const trace = new InstructionTrace(this.#interpreter.execution(cpu))
    this.#ports.log = log
    this.#ports.onSmi = () => {
      this.#programFlash(log.skipHandler())
      this.#answerSmi(call, runtime)
    }
    let end: Difference[] = []
    trace.during(() => {
      try {
        this.#callFunction(call)
      } catch (error) {
        if (!isMachineEnd(error)) throw error
        const recorded = `a status of ${hex(call.status)}`
        end = [{ compared: 'exception', place: '', recorded, replayed: error.message }]
      }
    })
    log.finish()
    if (end.length === 0) end = compareNumbers('status', call.status, cpu.general64[Gpr.RAX]!)
    return [
      ...end,
      ...log.differences,
      ...(extent === 'whole'
        ? trace.compare(call)
        : trace.compareCode(call, (page) => this.#imageAt(cpu.peekPhysical(page)) !== undefined)),
    ]
  }

  /**
   * Linux calls a service through __efi_call (arch/x86/platform/efi/efi_stub_64.S, 6.1): it saves RBP, aligns the stack, and passes the fifth argument, and a sixth that nobody has set, behind the shadow space of
   * the first four.
   */
  #callFunction(call: RecordedCall): void {
    if (this.#architecture === 'ia32') {
      this.#callFunctionOf32Bits(call)
      return
    }
    const { args, functionAddress, stack } = call
    const { bootCpu: cpu } = this.#machine
    const frame = ((stack - 8n) & ~0xfn) - 0x30n
    cpu.general64.fill(0n)
    for (const [index, register] of [Gpr.RCX, Gpr.RDX, Gpr.R8, Gpr.R9].entries()) {
      cpu.general64[register] = args[index] ?? 0n
    }
    cpu.write64(stack - 8n, 0n)
    cpu.write64(frame + 0x20n, args[4] ?? 0n)
    cpu.write64(frame + 0x28n, 0n)
    cpu.write64(frame - 8n, RETURN_ADDRESS)
    cpu.rsp = frame - 8n
    cpu.rip = functionAddress
    cpu.rflags = INTERRUPTS_OFF
    this.#interpreter.run(cpu, { until: { rip: RETURN_ADDRESS, rsp: frame } })
  }

  /** The stack begins with the arguments (UEFI 2.10, 2.3.2.2). */
  #callFunctionOf32Bits({ service, args, functionAddress, stack }: RecordedCall): void {
    const { bootCpu: cpu } = this.#machine
    const rip = BigInt.asUintN(32, RETURN_ADDRESS)
    cpu.general64.fill(0n)
    for (const [index, word] of argumentWords(IA32, service, args).entries()) {
      cpu.write32(stack + BigInt(index * 4), Number(word))
    }
    cpu.write32(stack - 4n, Number(rip))
    cpu.rsp = stack - 4n
    cpu.rip = functionAddress
    cpu.rflags = INTERRUPTS_OFF
    this.#interpreter.run(cpu, { until: { rip, rsp: stack } })
  }

  /**
   * What a handler in system-management mode left in memory, from the recording of how it was in the end: in pool, where the driver's buffer is, and in the data of the drivers between the service and the handler, which
   * share it with the latter (PiSmmIpl's gSmmCorePrivate). The data of the service's own image are its own.
   */
  #answerSmi(call: RecordedCall, before: MemoryImage): void {
    const { memory, bootCpu: cpu } = this.#machine
    const own = this.#imageAt(cpu.peekPhysical(call.functionAddress))
    const isShared = (address: number): boolean => {
      const image = this.#imageAt(address)
      return image === undefined || image !== own
    }
    before.restore(memory, isShared)
    for (const { address, after } of call.runtimeChanges) {
      if (isShared(address)) memory.write64(address, after)
    }
  }

  #imageAt(physical: number | undefined): FirmwareImage | undefined {
    if (physical === undefined) return undefined
    return this.#images.find(({ base, bytes }) => physical >= base && physical < base + bytes)
  }

  /** Makes the machine what it was recorded to be after the call, for the next. */
  #settle(
    call: RecordedCall,
    found: {
      readonly log: DeviceLog
      readonly runtime: MemoryImage
      readonly isAsRecorded: boolean
    },
  ): void {
    const { memory } = this.#machine
    if (call.restored) this.#beforeChange?.restore(memory)
    else if (!found.isAsRecorded) {
      found.runtime.restore(memory)
      for (const { address, after } of call.runtimeChanges) memory.write64(address, after)
    }
    if (!found.log.isDone) this.#programFlash(found.log.rest())
  }

  #programFlash(accesses: readonly DeviceAccess[]): void {
    const flash = this.#flash
    if (flash === undefined) return
    for (const { kind, address, size, value } of accesses) {
      const isFlash = address >= flash.start && address < flash.end
      if (kind === 'write' && isFlash) flash.program(address - flash.start, size, value)
    }
  }
}
