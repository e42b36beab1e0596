import { isCanonical } from '../address.ts'
import { CoreError } from '../error.ts'
import { type PageAttributeTable, PAT_AT_RESET } from '../memory/memory-type.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry } from '../paging/entry.ts'
import { type TranslationContext, type WalkStep, walkSteps } from '../paging/inspect.ts'
import { FOUR_LEVEL } from '../paging/mode.ts'
import { PageWalker, WalkStatus } from '../paging/walk.ts'
import type { Machine } from '../machine/machine.ts'
import { MachineReset } from '../machine/reset.ts'
import { GATE_SIZE, type GateFunction } from './call-gate.ts'
import { CR0_LONG_MODE, Cr0, Cr4, Efer } from './control.ts'
import { type CpuCounters, zeroCounters } from './counters.ts'
import {
  type CpuException,
  type FaultSite,
  GeneralProtection,
  InvalidOpcode,
  PageFault,
} from './exception.ts'
import {
  AccessKind,
  accessOf,
  pageFaultCode,
  type PermissionControls,
  permissionTable,
} from './permission.ts'
import { Tlb } from './tlb.ts'

/** A function that runs on a CPU: a gate that was called and has not returned. */
export interface ActiveCall {
  readonly gate: GateFunction
  readonly rip: bigint
}

/** Told of every physical page that the CPU touches, while it is set. */
export type TouchRecorder = (
  frame: number,
  access: 'read' | 'write' | 'execute',
  address: bigint,
) => void

const PHYSICAL_PAGE = 4096

/**
 * One x86-64 processor in long mode with 4-level paging. Every access names a 64-bit linear address and goes through the TLB and the page
 * tables that CR3 points to; what hardware would refuse is thrown as a {@link CpuException}. Values are little endian.
 */
export class Cpu {
  readonly id: number
  readonly machine: Machine
  readonly tlb: Tlb = new Tlb()
  readonly counters: CpuCounters = zeroCounters()
  /** Faulting address of the last page fault. */
  cr2: bigint
  /** RFLAGS.IF. */
  interruptFlag: boolean
  /** Current privilege level: 0 supervisor, 3 user. */
  cpl: 0 | 3
  /** Top of the stack. Calls push on it. */
  rsp: bigint
  /** IA32_PAT. */
  pat: PageAttributeTable
  touchRecorder: TouchRecorder | undefined

  #cr0: number
  #cr3: number
  #cr4: number
  #efer: number
  #alignmentCheck: boolean
  #walker: PageWalker
  #controls: PermissionControls
  #permissions: Uint8Array
  readonly #calls: ActiveCall[] = []
  readonly #memory: PhysicalMemory

  /** A CPU in long mode with interrupts off, or with the registers of `from` and an empty TLB. */
  constructor(machine: Machine, id: number, from?: Cpu) {
    this.machine = machine
    this.id = id
    this.#memory = machine.memory
    this.#cr0 = from?.cr0 ?? CR0_LONG_MODE
    this.#cr3 = from?.cr3 ?? 0
    this.#cr4 = from?.cr4 ?? Cr4.PAE
    this.#efer = from?.efer ?? Efer.LME | Efer.LMA
    this.#alignmentCheck = from?.alignmentCheck ?? false
    this.cr2 = from?.cr2 ?? 0n
    this.interruptFlag = from?.interruptFlag ?? false
    this.cpl = from?.cpl ?? 0
    this.rsp = from?.rsp ?? 0n
    this.pat = from?.pat ?? PAT_AT_RESET
    this.#walker = this.#newWalker()
    this.#controls = this.#readControls()
    this.#permissions = permissionTable(this.#controls)
  }

  get cr0(): number {
    return this.#cr0
  }

  /** MOV to CR0. Long mode is never left here: PE and PG stay set. */
  writeCr0(value: number): void {
    if ((value & Cr0.PE) === 0 || (value & Cr0.PG) === 0) {
      throw new CoreError('CORE_BAD_CONTROL_REGISTER', {
        expected: 'CR0 with PE and PG set',
        found: `0x${(value >>> 0).toString(16)}`,
      })
    }
    this.#cr0 = value >>> 0
    this.#controlsChanged()
  }

  /** Physical address of the root table. */
  get cr3(): number {
    return this.#cr3
  }

  /** MOV to CR3: loads a root and drops the translations that are not global. A root above MAXPHYADDR is #GP(0), a misaligned one a {@link CoreError}. */
  writeCr3(root: number): void {
    if (root % PHYSICAL_PAGE !== 0 || root < 0) {
      throw new CoreError('CORE_BAD_CONTROL_REGISTER', {
        expected:
          'CR3 with the address of a whole page and no flags, as PWT, PCD and PCIDs are not modelled',
        found: `0x${root.toString(16)}`,
      })
    }
    if (root >= 2 ** this.machine.features.maxPhysicalAddressBits) {
      throw this.#raise(
        new GeneralProtection('CR3 cannot hold this root', BigInt(root), this.#site()),
      )
    }
    this.machine.log.emit({ kind: 'cr3-write', cpu: this.id, from: this.#cr3, to: root })
    this.#cr3 = root
    this.counters.cr3Writes++
    this.tlb.flushNonGlobal()
  }

  get cr4(): number {
    return this.#cr4
  }

  /**
   * MOV to CR4: a change of PGE drops all translations, and so does setting SMEP (SDM Vol. 3, 4.10.4.1). A bit the CPU lacks is #GP(0);
   * no model has PCIDs, 5-level paging or protection keys.
   */
  writeCr4(value: number): void {
    const { features } = this.machine
    const missing =
      (features.pge ? 0 : value & Cr4.PGE) |
      (features.smep ? 0 : value & Cr4.SMEP) |
      (features.smap ? 0 : value & Cr4.SMAP) |
      (value & (Cr4.LA57 | Cr4.PCIDE | Cr4.PKE))
    if (missing !== 0 || (value & Cr4.PAE) === 0) {
      throw this.#raise(
        new GeneralProtection('CR4 cannot hold this value', BigInt(value), this.#site()),
      )
    }
    const changed = value ^ this.#cr4
    this.machine.log.emit({ kind: 'cr4-write', cpu: this.id, from: this.#cr4, to: value })
    this.#cr4 = value
    if ((changed & Cr4.PGE) !== 0) {
      this.tlb.flushAll()
      this.counters.globalFlushes++
    } else if ((changed & value & Cr4.SMEP) !== 0) {
      this.tlb.flushAll()
    }
    this.#controlsChanged()
  }

  get efer(): number {
    return this.#efer
  }

  /** WRMSR to IA32_EFER. NXE on a CPU without NX is #GP(0), and so is clearing LME, as paging is on. It drops no translation. */
  writeEfer(value: number): void {
    const lacksNx = (value & Efer.NXE) !== 0 && !this.machine.features.nx
    if (lacksNx || (value & Efer.LME) === 0) {
      throw this.#raise(
        new GeneralProtection('EFER cannot hold this value', BigInt(value), this.#site()),
      )
    }
    this.#efer = value | Efer.LMA
    this.#walker = this.#newWalker()
    this.#controlsChanged()
  }

  /** RFLAGS.AC, which lets a supervisor pass SMAP. */
  get alignmentCheck(): boolean {
    return this.#alignmentCheck
  }

  set alignmentCheck(value: boolean) {
    this.#alignmentCheck = value
    this.#controlsChanged()
  }

  /** INVLPG: drops the translations of one page, global or not. */
  invlpg(address: bigint): void {
    this.machine.log.emit({ kind: 'invlpg', cpu: this.id, address })
    this.counters.invlpgs++
    this.tlb.invalidatePage(address)
  }

  /** What inspectors need to read this CPU's tables as it would; `root` defaults to CR3. */
  translationContext(root: number = this.#cr3): TranslationContext {
    return {
      memory: this.#memory,
      mode: FOUR_LEVEL,
      features: this.machine.features,
      noExecute: this.#controls.noExecute,
      root,
    }
  }

  /** The functions that were called and have not returned, the innermost last. */
  get calls(): readonly ActiveCall[] {
    return this.#calls
  }

  /** The physical address that an access to `address` reaches. Sets accessed and dirty flags and fills the TLB, as the access would. */
  translate(address: bigint, access: 'read' | 'write' | 'execute'): number {
    const verb =
      access === 'read'
        ? AccessKind.Read
        : access === 'write'
          ? AccessKind.Write
          : AccessKind.Execute
    if (!isCanonical(address)) {
      throw this.#raise(new GeneralProtection('address is not canonical', address, this.#site()))
    }
    const frame = this.translateHalves(
      Number(address >> 32n) | 0,
      Number(address & 0xffff_ffffn) | 0,
      verb + (this.cpl === 3 ? AccessKind.UserOffset : 0),
    )
    this.touchRecorder?.(frame, access, address)
    return frame * PHYSICAL_PAGE + Number(address & 0xfffn)
  }

  /**
   * {@link translate} for callers that count nanoseconds: a canonical address as signed 32-bit halves and an {@link AccessKind};
   * returns the frame.
   */
  translateHalves(high: number, low: number, kind: number): number {
    const { tlb } = this
    const write = kind % AccessKind.UserOffset === AccessKind.Write
    if (tlb.find(high, low)) {
      if ((this.#permissions[kind]! & (1 << tlb.rights)) === 0) {
        throw this.#pageFault(high, low, pageFaultCode(kind, true, false, this.#controls), kind, [])
      }
      if (!write || tlb.dirty) {
        this.counters.tlbHits++
        return tlb.frame
      }
    }
    this.counters.tlbMisses++
    return this.#walk(high, low, kind, write)
  }

  read8(address: bigint): number {
    return this.#memory.read8(this.translate(address, 'read'))
  }

  read16(address: bigint): number {
    return this.#readSmall(address, 2)
  }

  /** An unsigned 32-bit value. */
  read32(address: bigint): number {
    return this.#readSmall(address, 4)
  }

  read64(address: bigint): bigint {
    const bytes = (address & 7n) === 0n ? undefined : this.readBytes(address, 8)
    if (bytes === undefined) return this.#memory.read64(this.translate(address, 'read'))
    return new DataView(bytes.buffer).getBigUint64(0, true)
  }

  write8(address: bigint, value: number): void {
    this.#memory.write8(this.translate(address, 'write'), value)
  }

  write16(address: bigint, value: number): void {
    this.#writeSmall(address, 2, value)
  }

  write32(address: bigint, value: number): void {
    this.#writeSmall(address, 4, value)
  }

  write64(address: bigint, value: bigint): void {
    if ((address & 7n) === 0n) {
      this.#memory.write64(this.translate(address, 'write'), value)
      return
    }
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true)
    this.writeBytes(address, bytes)
  }

  /** A copy of `length` bytes from `address`, page by page. */
  readBytes(address: bigint, length: number): Uint8Array {
    return this.#copyIn(address, length, 'read')
  }

  /** Writes `bytes` at `address`, page by page; pages before one that faults are written. */
  writeBytes(address: bigint, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const at = address + BigInt(done)
      const count = Math.min(bytes.length - done, PHYSICAL_PAGE - Number(at & 0xfffn))
      this.#memory.write(this.translate(at, 'write'), bytes.subarray(done, done + count))
      done += count
    }
  }

  /**
   * Calls the code at `address` with arguments in registers: pushes a return address, fetches through the page tables, and runs the gate
   * that the bytes are. Other bytes are #UD. Returns RAX.
   */
  call(address: bigint, ...args: readonly bigint[]): bigint {
    const returnSlot = BigInt.asUintN(64, this.rsp - 8n)
    this.write64(returnSlot, this.#calls.at(-1)?.rip ?? 0n)
    const gate = this.#fetchGate(address)
    const { log } = this.machine
    log.emit({ kind: 'call', cpu: this.id, rip: address, name: gate.name, image: gate.image })
    this.#calls.push({ gate, rip: address })
    this.rsp = returnSlot
    const rax = BigInt.asUintN(64, gate.run({ cpu: this, rip: address, args }))
    this.read64(returnSlot)
    this.rsp = BigInt.asUintN(64, returnSlot + 8n)
    this.#calls.pop()
    log.emit({ kind: 'return', cpu: this.id, name: gate.name, image: gate.image, rax })
    return rax
  }

  /** Forgets the calls that are under way, as a kernel does that will not return to them. */
  abandonCalls(): void {
    this.#calls.length = 0
  }

  /** IN from an 8-bit port. */
  in8(port: number): number {
    return this.machine.ports.in8(port)
  }

  /** OUT to an 8-bit port. A write that resets the machine throws {@link MachineReset}. */
  out8(port: number, value: number): void {
    try {
      this.machine.ports.out8(port, value)
    } catch (error) {
      if (error instanceof MachineReset) this.machine.log.emit({ kind: 'reset', port, value })
      throw error
    }
  }

  #walk(high: number, low: number, kind: number, write: boolean): number {
    const walker = this.#walker
    const status = walker.walk(this.#cr3 / PHYSICAL_PAGE, high, low)
    this.counters.walkReferences += walker.depth + 1
    if (status !== WalkStatus.Mapped || (this.#permissions[kind]! & (1 << walker.rights)) === 0) {
      // Reserved bits are looked at in present entries only, so that such a fault has P set too (SDM Vol. 3, 4.7).
      const isPresent = status !== WalkStatus.NotPresent
      const isReserved = status === WalkStatus.ReservedBit
      const code = pageFaultCode(kind, isPresent, isReserved, this.#controls)
      throw this.#pageFault(high, low, code, kind, walkSteps(walker, this.#memory))
    }
    walker.markUsed(write)
    this.tlb.insert(high, low, {
      frame: walker.frame,
      rights: walker.rights,
      dirty: write || (walker.leafLow & Entry.Dirty) !== 0,
      global: (walker.leafLow & Entry.Global) !== 0 && (this.#cr4 & Cr4.PGE) !== 0,
      pageFrames: walker.pageFrames,
      patIndex: walker.patIndex,
    })
    return walker.frame
  }

  /** A page fault as it is raised. It takes the TLB's entries for its page along (SDM Vol. 3, 4.10.4.1). */
  #pageFault(
    high: number,
    low: number,
    errorCode: number,
    kind: number,
    steps: readonly WalkStep[],
  ): CpuException {
    const address = joinHalves(high, low)
    this.cr2 = address
    this.tlb.invalidatePage(address)
    return this.#raise(new PageFault(address, accessOf(kind), errorCode, steps, this.#site()))
  }

  #raise<E extends CpuException>(exception: E): E {
    const fault = exception instanceof PageFault ? exception : undefined
    this.machine.log.emit({
      kind: 'exception',
      cpu: this.id,
      mnemonic: exception.mnemonic,
      message: exception.message,
      address: fault?.address,
      access: fault?.access,
      errorCode: fault?.errorCode,
    })
    return exception
  }

  #site(): FaultSite {
    return { cpu: this.id, rip: this.#calls.at(-1)?.rip, cr3: this.#cr3 }
  }

  #readSmall(address: bigint, size: 2 | 4): number {
    if (Number(address & 0xfffn) + size > PHYSICAL_PAGE) {
      const view = new DataView(this.readBytes(address, size).buffer)
      return size === 2 ? view.getUint16(0, true) : view.getUint32(0, true)
    }
    const physical = this.translate(address, 'read')
    return size === 2 ? this.#memory.read16(physical) : this.#memory.read32(physical)
  }

  #writeSmall(address: bigint, size: 2 | 4, value: number): void {
    if (Number(address & 0xfffn) + size > PHYSICAL_PAGE) {
      const view = new DataView(new ArrayBuffer(size))
      if (size === 2) view.setUint16(0, value, true)
      else view.setUint32(0, value, true)
      this.writeBytes(address, new Uint8Array(view.buffer))
      return
    }
    const physical = this.translate(address, 'write')
    if (size === 2) this.#memory.write16(physical, value)
    else this.#memory.write32(physical, value)
  }

  #copyIn(address: bigint, length: number, access: 'read' | 'execute'): Uint8Array {
    const within = Number(address & 0xfffn)
    if (within + length <= PHYSICAL_PAGE) {
      return this.#memory.read(this.translate(address, access), length)
    }
    const bytes = new Uint8Array(length)
    for (let done = 0; done < length;) {
      const at = address + BigInt(done)
      const count = Math.min(length - done, PHYSICAL_PAGE - Number(at & 0xfffn))
      bytes.set(this.#memory.read(this.translate(at, access), count), done)
      done += count
    }
    return bytes
  }

  /** Fetches the gate at an address; other bytes are #UD. */
  #fetchGate(address: bigint): GateFunction {
    const memory = this.#memory
    let gate: GateFunction | undefined
    if (Number(address & 0xfffn) + GATE_SIZE <= PHYSICAL_PAGE) {
      const physical = this.translate(address, 'execute')
      gate = this.machine.gates.decode(memory.read32(physical), memory.read32(physical + 4))
    } else {
      const view = new DataView(this.#copyIn(address, GATE_SIZE, 'execute').buffer)
      gate = this.machine.gates.decode(view.getInt32(0, true), view.getInt32(4, true))
    }
    if (gate !== undefined) return gate
    const bytes = this.#copyIn(address, GATE_SIZE, 'execute')
    throw this.#raise(new InvalidOpcode(address, bytes, this.#site()))
  }

  #newWalker(): PageWalker {
    return new PageWalker(
      this.#memory,
      FOUR_LEVEL,
      this.machine.features,
      (this.#efer & Efer.NXE) !== 0,
    )
  }

  #readControls(): PermissionControls {
    return {
      writeProtect: (this.#cr0 & Cr0.WP) !== 0,
      noExecute: (this.#efer & Efer.NXE) !== 0,
      smep: (this.#cr4 & Cr4.SMEP) !== 0,
      smap: (this.#cr4 & Cr4.SMAP) !== 0,
      alignmentCheck: this.#alignmentCheck,
    }
  }

  #controlsChanged(): void {
    this.#controls = this.#readControls()
    this.#permissions = permissionTable(this.#controls)
  }
}

/** The 64-bit address with these halves. */
function joinHalves(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)
}
