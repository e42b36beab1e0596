import { formatAddress, PAGE_SIZE } from '../address.ts'
import type { Cpu } from '../cpu/cpu.ts'
import { Cr4 } from '../cpu/control.ts'
import { ControlProtection, InvalidOpcode } from '../cpu/exception.ts'
import type { InstructionExecutor } from '../cpu/executor.ts'
import { Gpr } from '../cpu/general-registers.ts'
import { deliverInterrupt, returnFromInterrupt } from '../interrupt/delivery.ts'
import type { Delivery, InterruptEvent } from '../interrupt/event.ts'
import { EndlessCode } from '../machine/endless-code.ts'
import { offsetInPage } from '../paging/linear-page.ts'
import type { Rewind } from '../rewind.ts'
import { GATE_SIZE, type GateFunction } from './call-gate.ts'
import { ON_STACK, passArguments, receivedArguments } from './calling-convention.ts'
import { MachineCode } from './machine-code.ts'

/** A function that runs on a CPU: one that was called and has not returned. */
export interface ActiveCall {
  /** The modelled function of a gate; or for machine code the function that was called, and the image whose code it is in now. */
  readonly gate: Pick<GateFunction, 'name' | 'image'>
  /** Where the gate was fetched, or the instruction that machine code has come to. */
  readonly rip: bigint
}

const NO_ARGUMENTS: readonly bigint[] = []
/** ENDBR64, F3 0F 1E FA, as a little-endian word. */
const ENDBR64 = 0xfa1e_0ff3 | 0
const ENDBR64_SIZE = 4

/** The functions that run on a CPU, gates and machine code, one called by the other: how they are entered, and how they return. */
export class FunctionCalls {
  readonly #cpu: Cpu
  readonly #active: ActiveCall[] = []

  constructor(cpu: Cpu) {
    this.#cpu = cpu
  }

  /** Those that have not returned, the innermost last. */
  get active(): readonly ActiveCall[] {
    return this.#active
  }

  /** Where the innermost is; undefined where none runs. */
  get rip(): bigint | undefined {
    return this.#active.at(-1)?.rip
  }

  /** Remembers which functions run. */
  checkpoint(): Rewind {
    const active = this.#active.slice()
    return () => {
      this.#active.splice(0, Infinity, ...active)
    }
  }

  /** {@link Cpu.abandonCalls}. */
  abandon(): void {
    this.#active.length = 0
  }

  /** {@link Cpu.call}. */
  call(address: bigint, args: readonly bigint[]): bigint {
    const cpu = this.#cpu
    const { executor } = cpu.machine
    if (executor !== undefined && !this.#isGateAt(address)) {
      return this.#callMachineCode(executor, address, args)
    }
    const isLong = cpu.isLongCode
    const { rsp } = cpu
    let returnSlot: bigint
    if (isLong) {
      returnSlot = BigInt.asUintN(64, rsp - 8n)
      cpu.write64(returnSlot, this.rip ?? 0n, ON_STACK)
    } else {
      this.#pushWords([this.rip ?? 0n, ...args])
      returnSlot = cpu.rsp
    }
    const gate = this.#fetchGate(address)
    const { log } = cpu.machine
    log.emit({ kind: 'call', cpu: cpu.id, rip: address, name: gate.name, image: gate.image })
    this.#active.push({ gate, rip: address })
    cpu.rsp = returnSlot
    const rax = BigInt.asUintN(
      isLong ? 64 : 32,
      cpu.machine.runAs(cpu, () =>
        gate.run({ cpu, rip: address, args: isLong ? args : NO_ARGUMENTS }),
      ),
    )
    if (isLong) cpu.read64(returnSlot, ON_STACK)
    else cpu.read32(returnSlot, ON_STACK)
    cpu.rsp = rsp
    this.#active.pop()
    log.emit({ kind: 'return', cpu: cpu.id, name: gate.name, image: gate.image, rax })
    return rax
  }

  /** {@link Cpu.interrupt}. */
  interrupt(event: InterruptEvent): bigint {
    const cpu = this.#cpu
    const delivery = deliverInterrupt(cpu, event)
    const { executor } = cpu.machine
    if (executor !== undefined && !this.#isGateAt(delivery.handler)) {
      return this.#runHandler(executor, delivery)
    }
    const gate = this.#fetchGate(delivery.handler)
    const rip = delivery.handler
    const args = [delivery.frame, BigInt(delivery.event.errorCode ?? 0)]
    this.#active.push({ gate, rip })
    const rax = cpu.machine.runAs(cpu, () => gate.run({ cpu, rip, args }))
    this.#active.pop()
    returnFromInterrupt(cpu, delivery)
    return BigInt.asUintN(64, rax)
  }

  /** {@link Cpu.runGate}. */
  runGate(gate: GateFunction): void {
    const cpu = this.#cpu
    const { log } = cpu.machine
    const { rip } = cpu
    log.emit({ kind: 'call', cpu: cpu.id, rip, name: gate.name, image: gate.image })
    this.#active.push({ gate, rip })
    const { rsp } = cpu
    const isLong = cpu.isLongCode
    const args = isLong ? receivedArguments(cpu) : NO_ARGUMENTS
    const rax = BigInt.asUintN(
      isLong ? 64 : 32,
      cpu.machine.runAs(cpu, () => gate.run({ cpu, rip, args })),
    )
    cpu.general64[Gpr.RAX] = rax
    cpu.rip = isLong ? cpu.read64(rsp, ON_STACK) : BigInt(cpu.read32(rsp, ON_STACK))
    cpu.rsp = BigInt.asUintN(64, rsp + (isLong ? 8n : 4n))
    this.#active.pop()
    log.emit({ kind: 'return', cpu: cpu.id, name: gate.name, image: gate.image, rax })
  }

  /** Whether a fetch at an address would find a gate; nothing is touched. */
  #isGateAt(address: bigint): boolean {
    const cpu = this.#cpu
    const first = this.#peekWord(address)
    const gate = first === ENDBR64 ? address + BigInt(ENDBR64_SIZE) : address
    const low = gate === address ? first : this.#peekWord(gate)
    const high = this.#peekWord(gate + 4n)
    if (low === undefined || high === undefined) return false
    return cpu.machine.gates.decode(low, high) !== undefined
  }

  /** Four bytes at an address, or undefined where nothing is mapped. */
  #peekWord(address: bigint): number | undefined {
    const cpu = this.#cpu
    const bytes = new Uint8Array(4)
    for (let index = 0; index < bytes.length; index++) {
      const physical = cpu.peekPhysical(BigInt.asUintN(64, address + BigInt(index)))
      if (physical === undefined) return undefined
      bytes[index] = cpu.machine.memory.read8(physical)
    }
    return new DataView(bytes.buffer).getInt32(0, true)
  }

  #callMachineCode(
    executor: InstructionExecutor,
    address: bigint,
    args: readonly bigint[],
  ): bigint {
    const cpu = this.#cpu
    const { log } = cpu.machine
    const callerRsp = cpu.rsp
    const callerRip = cpu.rip
    const returnAddress = this.rip ?? 0n
    const isLong = cpu.isLongCode
    if (isLong) passArguments(cpu, returnAddress, args)
    else this.#pushWords([returnAddress, ...args])
    const until = {
      rip: BigInt.asUintN(isLong ? 64 : 32, returnAddress),
      rsp: BigInt.asUintN(64, cpu.rsp + (isLong ? 8n : 4n)),
    }
    cpu.rip = address
    const code = new MachineCode(cpu, address)
    const { name, image } = code.gate
    log.emit({ kind: 'call', cpu: cpu.id, rip: address, name, image })
    this.#runMachineCode(executor, code, callerRip, until)
    cpu.rip = callerRip
    cpu.rsp = callerRsp
    const rax = BigInt.asUintN(isLong ? 64 : 32, cpu.general64[Gpr.RAX]!)
    log.emit({ kind: 'return', cpu: cpu.id, name, image, rax })
    return rax
  }

  /** Runs machine code to its end; code that called it stands where it is meanwhile. */
  #runMachineCode(
    executor: InstructionExecutor,
    code: MachineCode,
    callerRip: bigint,
    until: { readonly rip: bigint; readonly rsp: bigint },
  ): void {
    const cpu = this.#cpu
    const caller = this.#active.findLast((call) => call instanceof MachineCode)
    if (caller !== undefined) caller.standsAt = callerRip
    this.#active.push(code)
    const { instructionLimit: maxInstructions } = cpu.machine
    const end = cpu.machine.runAs(cpu, () => executor.run(cpu, { until, maxInstructions }))
    if (end !== 'returned') throw new EndlessCode(code.gate, cpu, end)
    this.#active.pop()
    if (caller !== undefined) caller.standsAt = undefined
  }

  #runHandler(executor: InstructionExecutor, { handler, interrupted }: Delivery): bigint {
    const cpu = this.#cpu
    const callerRip = cpu.rip
    cpu.rip = handler
    this.#runMachineCode(executor, new MachineCode(cpu, handler), callerRip, interrupted)
    return cpu.general64[Gpr.RAX]!
  }

  /** Pushes words of 32 bits, the last first. */
  #pushWords(words: readonly bigint[]): void {
    const cpu = this.#cpu
    for (const word of words.toReversed()) {
      const at = BigInt.asUintN(32, cpu.rsp - 4n)
      // An interrupt that comes with the write has its frame below.
      cpu.rsp = at
      cpu.write32(at, Number(BigInt.asUintN(32, word)), ON_STACK)
    }
  }

  /** Fetches the gate at an address; other bytes are #UD. */
  #fetchGate(address: bigint): GateFunction {
    const cpu = this.#cpu
    const memory = cpu.machine.memory
    let gate: GateFunction | undefined
    const { gates } = cpu.machine
    if (offsetInPage(address) + ENDBR64_SIZE + GATE_SIZE <= PAGE_SIZE) {
      const at = cpu.translate(address, 'execute')
      const word = memory.read32(at) | 0
      if (word === ENDBR64) return this.#gateBehind(address, memory.read(at, 12))
      gate = gates.decode(word, memory.read32(at + 4))
    } else {
      const view = new DataView(cpu.fetchBytes(address, GATE_SIZE).buffer)
      const word = view.getInt32(0, true)
      if (word === ENDBR64)
        return this.#gateBehind(address, cpu.fetchBytes(address, ENDBR64_SIZE + GATE_SIZE))
      gate = gates.decode(word, view.getInt32(4, true))
    }
    if (cpu.endbranchTracking && (cpu.cr4 & Cr4.CET) !== 0) {
      throw cpu.raise((site) => new ControlProtection(address, site))
    }
    if (gate !== undefined) return gate
    const bytes = cpu.fetchBytes(address, GATE_SIZE)
    const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ')
    const message = `no instruction at ${formatAddress(address)}: ${text}`
    throw cpu.raise((site) => new InvalidOpcode(message, address, bytes, site))
  }

  /** The gate that follows ENDBR64, of the bytes from the latter on. */
  #gateBehind(address: bigint, bytes: Uint8Array): GateFunction {
    const cpu = this.#cpu
    const view = new DataView(bytes.buffer, bytes.byteOffset)
    const gate = cpu.machine.gates.decode(
      view.getInt32(ENDBR64_SIZE, true),
      view.getInt32(ENDBR64_SIZE + 4, true),
    )
    if (gate !== undefined) return gate
    const message = `no instruction behind ENDBR64 at ${formatAddress(address)}`
    throw cpu.raise((site) => new InvalidOpcode(message, address, bytes, site))
  }
}
