import {
  countersBetween,
  type Cpu,
  type CpuCounters,
  type DescriptorTable,
  FloatingPointState,
  PageFault,
  SystemManagementInterrupt,
} from '@trapdoor/core'
import { argumentWords, decodeStatus, EfiStatus, type RuntimeServiceName } from '@trapdoor/uefi'
import { KernelError } from '../error.ts'
import { takeInterrupt } from '../interrupt/interrupts.ts'
import type { Kernel } from '../kernel.ts'
import { physicalFunction, virtualFunction } from './efi-init.ts'

/** What surrounds a call: how a CPU gets to what the firmware runs under, and back. */
export interface CallPath {
  enter?(call: RuntimeCall): void
  leave?(call: RuntimeCall): void
  /** What the call returns in place of the firmware that a page fault has stopped; undefined where the fault kills the kernel. */
  recover?(call: RuntimeCall, fault: PageFault): bigint | undefined
  /** Whether calls wait for one another. */
  readonly serialised?: boolean
  /** The lock that calls of a service wait for, where not all wait for one: those that name the same one wait for one another. */
  lockOf?(service: RuntimeServiceName): string | undefined
  /** Whether a call of a service that finds its lock held is given up, where others wait (down_trylock()). */
  triesLock?(service: RuntimeServiceName): boolean
  /** What the firmware gets in place of `args`, which are the kernel's own addresses. Default: the same. */
  passedArguments?(call: RuntimeCall): readonly bigint[]
  /** What the kernel's own wrapper returns where it does not get as far as the firmware; undefined where it calls. Asked before {@link enter}. */
  answer?(call: RuntimeCall): bigint | undefined
}

/** A page that the firmware touched. */
export interface Touch {
  readonly frame: number
  readonly access: 'read' | 'write' | 'execute'
  readonly address: bigint
  /** Image whose code did it; undefined for the fetch of the first instruction. */
  readonly image: string | undefined
}

/** Of all services, since Linux 3.18. */
const EFI_RUNTIME_LOCK = 'efi_runtime_lock'

type CallState = 'prepared' | 'entered' | 'returned' | 'left'

/**
 * One call of a runtime service on one CPU, in steps that other CPUs' steps may come between: `enter`, `execute`, `leave`, in this order, else
 * KERNEL_WRONG_PHASE.
 */
export class RuntimeCall {
  readonly kernel: Kernel
  readonly cpu: Cpu
  readonly service: RuntimeServiceName
  readonly args: readonly bigint[]
  /** What the kernel's wrapper passes on, still by the kernel's addresses: {@link args}, or copies that it has made of what they point to. */
  wrapperArgs: readonly bigint[]
  /** CR3, RFLAGS.IF, GDTR, MXCSR, the registers of x87 and SSE, and the counters as the kernel had them before {@link enter}. */
  readonly before: {
    readonly cr3: number
    readonly interruptFlag: boolean
    readonly gdtr: DescriptorTable
    readonly mxcsr: number
    readonly floatingPoint: FloatingPointState
    readonly counters: CpuCounters
  }
  /** Pages that the firmware touched, in order; an immediate repetition is left out. */
  readonly touches: Touch[] = []
  readonly #path: CallPath
  readonly #functionAddress: (call: RuntimeCall) => bigint
  #resolved: bigint | undefined
  #state: CallState = 'prepared'
  #status: bigint = EfiStatus.NOT_READY
  /** RSP of the caller, and whether its own wrapper has answered in place of the firmware. */
  #callerRsp = 0n
  #isAnswered = false
  /** The lock that this call has taken. */
  #holds: string | undefined
  #interrupt: ((accesses: number, access: Touch['access']) => void) | undefined
  #interruptSwitch: ((access: Touch['access']) => void) | undefined
  #accesses = 0

  constructor(
    kernel: Kernel,
    cpu: Cpu,
    service: RuntimeServiceName,
    args: readonly bigint[],
    how: { readonly path: CallPath; readonly functionAddress: (call: RuntimeCall) => bigint },
  ) {
    this.kernel = kernel
    this.cpu = cpu
    this.service = service
    this.args = args
    this.wrapperArgs = args
    this.#path = how.path
    this.#functionAddress = how.functionAddress
    this.before = {
      cr3: cpu.cr3,
      interruptFlag: cpu.interruptFlag,
      gdtr: cpu.gdtr,
      mxcsr: cpu.mxcsr,
      floatingPoint: new FloatingPointState(cpu.floatingPoint),
      counters: { ...cpu.counters },
    }
  }

  /** What the firmware returned. */
  get status(): bigint {
    return this.#status
  }

  /** What the CPU did from {@link enter} on. */
  get counters(): CpuCounters {
    return countersBetween(this.before.counters, this.cpu.counters)
  }

  /**
   * Before each memory access of the firmware `interrupt` runs, once the page tables have let it through, with its number, from 1, and its kind: the places where something may
   * come between. What it touches is not noted.
   */
  interruptEach(interrupt: (accesses: number, access: Touch['access']) => void): void {
    this.#interrupt = interrupt
  }

  /** As {@link interruptEach}, once, at this access. */
  interruptAfter(accesses: number, interrupt: (call: RuntimeCall) => void): void {
    this.interruptEach((done) => {
      if (done === accesses) interrupt(this)
    })
  }

  /** Before each memory access of the strategy in {@link enter} and {@link leave}, once the page tables have let it through, `interrupt` runs, with its kind. */
  interruptSwitches(interrupt: (access: Touch['access']) => void): void {
    this.#interruptSwitch = interrupt
  }

  /** The lock that calls of this kind wait for; undefined where they do not wait. */
  get lock(): string | undefined {
    return (
      this.#path.lockOf?.(this.service) ??
      (this.#path.serialised === true ? EFI_RUNTIME_LOCK : undefined)
    )
  }

  /** Whether {@link enter} need not wait for another CPU's call to be left. */
  get mayEnter(): boolean {
    return !this.#isLocked || this.#path.triesLock?.(this.service) === true
  }

  get #isLocked(): boolean {
    return this.lock !== undefined && this.kernel.heldLocks.has(this.lock)
  }

  /** The strategy's prolog. Throws KERNEL_WOULD_WAIT where {@link mayEnter} is false. */
  enter(): void {
    if (!this.mayEnter) {
      throw new KernelError('KERNEL_WOULD_WAIT', {
        expected: `${this.lock} to be free for CPU ${this.cpu.id}`,
        found: `CPU ${this.kernel.heldLocks.get(this.lock!)?.id} inside a runtime call`,
        hint: 'ask mayEnter, and let the other CPU leave its call first',
      })
    }
    this.#step('prepared', 'entered')
    if (this.#isLocked) {
      this.#giveUp()
      return
    }
    if (this.lock !== undefined) this.#hold(this.lock)
    this.#holds = this.lock
    const { cpu } = this
    this.#callerRsp = cpu.rsp
    // The wrapper's frame is below its caller's, where what was passed may lie.
    cpu.rsp -= BigInt(this.kernel.argumentAreas[cpu.id]?.stackBytes ?? 0)
    const answer = this.#path.answer?.(this)
    if (answer !== undefined) {
      this.#isAnswered = true
      this.#status = answer
      return
    }
    this.#switch(() => this.#path.enter?.(this))
    this.kernel.hooks.callEntered.call(this)
  }

  /**
   * The address of the function, read where the kernel keeps it, once: at the first instruction, or before by who leaves the kernel's address space in {@link enter} and takes it along.
   */
  resolveFunction(): bigint {
    this.#resolved ??= this.#functionAddress(this)
    return this.#resolved
  }

  /** What the firmware gets in place of {@link args}, before its words are cut to the width that they have there. */
  passedArguments(): readonly bigint[] {
    return this.#path.passedArguments?.(this) ?? this.args
  }

  /** The firmware's code, from the fetch of its first instruction to its return. */
  execute(): void {
    this.#step('entered', 'returned')
    if (this.#isAnswered) return
    const { cpu } = this
    const { architecture } = this.kernel.requireEfi.info
    const address = this.resolveFunction()
    const interruptsOff = !cpu.interruptFlag
    cpu.recordsEveryAccess = this.#interrupt !== undefined
    cpu.touchRecorder = (frame, access, at) => {
      this.#touched(frame, access, at)
    }
    const { rsp } = cpu
    try {
      const words = argumentWords(architecture, this.service, this.passedArguments())
      this.#status = decodeStatus(architecture, cpu.call(address, ...words))
    } catch (error) {
      const status = this.#answerInPlace(error)
      if (status === undefined) throw error
      cpu.abandonCalls()
      this.#status = status
    }
    cpu.rsp = rsp
    cpu.touchRecorder = undefined
    if (interruptsOff && cpu.interruptFlag) {
      this.kernel.print(`timer interrupt inside ${this.service}, which ran with interrupts off`)
      takeInterrupt(this.kernel, cpu, 'timer')
      this.kernel.hooks.interruptedInside.call(this)
    }
    this.kernel.hooks.callReturned.call(this)
  }

  /** The strategy's epilog. */
  leave(): void {
    this.#step('returned', 'left')
    if (!this.#isAnswered) this.#switch(() => this.#path.leave?.(this))
    this.cpu.rsp = this.#callerRsp
    if (this.#holds !== undefined) this.#release(this.#holds)
    if (!this.#isAnswered) this.kernel.hooks.callLeft.call(this)
  }

  /** All three steps. Returns the status. */
  run(): bigint {
    this.enter()
    this.execute()
    this.leave()
    return this.#status
  }

  /** A bug in an interrupt handler, inside the call: reads address 0. Returns whether a page fault caught it. */
  dereferenceNull(): boolean {
    let caught = false
    try {
      this.cpu.read64(0n)
    } catch (error) {
      if (!(error instanceof PageFault)) throw error
      caught = true
    }
    this.kernel.print(
      caught
        ? 'BUG: unable to handle kernel NULL pointer dereference (in an NMI handler)'
        : 'an NMI handler read address 0 and got away with it',
    )
    this.kernel.hooks.nullRead.call(this, caught)
    return caught
  }

  /** What the call returns although the firmware has not come to its end; undefined where that was the machine's end, too. */
  #answerInPlace(error: unknown): bigint | undefined {
    if (error instanceof PageFault) return this.#path.recover?.(this, error)
    // No handler in SMRAM does what the firmware has asked for: the service cannot be had from this machine.
    if (!(error instanceof SystemManagementInterrupt)) return undefined
    this.kernel.hooks.managementInterrupt.call(this, error.command)
    return EfiStatus.DEVICE_ERROR
  }

  /** virt_efi_reset_system() where down_trylock() fails: its caller goes on, and tries another way to reset. */
  #giveUp(): void {
    this.kernel.print(
      `efi: failed to invoke the ${this.service} runtime service: could not get exclusive access to the firmware`,
    )
    this.#callerRsp = this.cpu.rsp
    this.#isAnswered = true
    this.#status = EfiStatus.NOT_READY
  }

  #switch(run: () => void): void {
    const interrupt = this.#interruptSwitch
    if (interrupt === undefined) {
      run()
      return
    }
    const { cpu } = this
    const recorder = (_frame: number, access: Touch['access']): void => {
      cpu.touchRecorder = undefined
      interrupt(access)
      cpu.touchRecorder = recorder
    }
    cpu.touchRecorder = recorder
    run()
    cpu.touchRecorder = undefined
  }

  #touched(frame: number, access: Touch['access'], address: bigint): void {
    const last = this.touches.at(-1)
    if (last === undefined || last.frame !== frame || last.access !== access) {
      this.touches.push({ frame, access, address, image: this.cpu.calls.at(-1)?.gate.image })
    }
    this.#accesses++
    if (this.#interrupt === undefined) return
    const recorder = this.cpu.touchRecorder
    this.cpu.touchRecorder = undefined
    this.#interrupt(this.#accesses, access)
    this.cpu.touchRecorder = recorder
  }

  #hold(lock: string): void {
    this.kernel.heldLocks = new Map([...this.kernel.heldLocks, [lock, this.cpu]])
  }

  #release(lock: string): void {
    this.kernel.heldLocks = new Map([...this.kernel.heldLocks].filter(([name]) => name !== lock))
  }

  #step(from: CallState, to: CallState): void {
    if (this.#state !== from) {
      throw new KernelError('KERNEL_WRONG_PHASE', {
        expected: `a call that is ${from}`,
        found: `one that is ${this.#state}`,
        hint: 'enter(), execute() and leave() come once each, in this order',
      })
    }
    this.#state = to
  }
}

/** How the strategy in use calls `service`. */
export function strategyCall(
  kernel: Kernel,
  cpu: Cpu,
  service: RuntimeServiceName,
  args: readonly bigint[],
): RuntimeCall {
  const strategy = kernel.strategy?.instance ?? {}
  return new RuntimeCall(kernel, cpu, service, args, {
    path: strategy,
    functionAddress: (call) =>
      strategy.functionAddress?.(kernel, call.cpu, service) ??
      defaultFunctionAddress(kernel, call.cpu, service),
  })
}

function defaultFunctionAddress(kernel: Kernel, cpu: Cpu, service: RuntimeServiceName): bigint {
  const efi = kernel.requireEfi
  return efi.virtualMode && efi.systab !== undefined
    ? virtualFunction(efi.info, efi.systab, cpu, service)
    : physicalFunction(efi, cpu, service)
}
