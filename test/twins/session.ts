import { type Cpu, CpuException, MachineReset } from '@trapdoor/core'
import { Interpreter } from '@trapdoor/cpu'
import { createFirmware, type Firmware, type PoweredMachine } from '@trapdoor/firmware'
import {
  type ArgumentPlace,
  bootKernel,
  createKernelHooks,
  EfiServices,
  type Kernel,
  layoutOf,
  loadKernel,
  type PreparedCall,
  type ServiceResult,
  type StrategyChoice,
} from '@trapdoor/kernel'
import type { FirmwareSnapshot } from '@trapdoor/snapshot'

import { CallRecorder, type Exit } from './call-recorder.ts'
import type { Entry } from './call-state.ts'
import { NotedPorts } from './noted-ports.ts'
import type { CallState } from './twin.ts'

/** A call as it was made here. */
export interface MadeCall {
  readonly entry: Entry
  readonly exit: Exit
  readonly room: CallState['room']
}

/** A call, and what the kernel made of its results; undefined where it did not come back. */
export interface Answer<T> {
  readonly call: MadeCall
  readonly result: ServiceResult<T> | undefined
}

/** What a session runs on. */
export interface SessionOptions {
  readonly snapshot: FirmwareSnapshot
  readonly strategy: StrategyChoice
  /** Where arguments are; default the stack. */
  readonly place?: ArgumentPlace
  /** Told of each instruction of a call, before it. */
  readonly onInstruction?: (cpu: Cpu) => void
}

/** A kernel with a strategy on a real firmware, and the calls that it makes. */
export class Session {
  readonly kernel: Kernel
  /** The call of SetVirtualAddressMap that the kernel made when it booted; undefined where it made none. */
  readonly virtualAddressMap: MadeCall | undefined
  readonly #options: SessionOptions
  readonly #firmware: Firmware
  readonly #recorder: CallRecorder
  readonly #ports: NotedPorts
  readonly #room: CallState['room']

  /** Boots the kernel on a machine that was switched on with the firmware, whose calls go through the recorder. */
  private constructor(
    options: SessionOptions,
    on: { readonly firmware: Firmware; readonly recorder: CallRecorder },
    powered: PoweredMachine,
  ) {
    this.#options = options
    this.#firmware = on.firmware
    this.#recorder = on.recorder
    const { machine } = powered
    this.#ports = new NotedPorts(machine.ports.fork())
    machine.ports.attach(this.#ports)
    this.#recorder.arm(this.#ports)
    const strategy = callingAll(options.strategy)
    this.kernel = bootKernel(loadKernel(powered, ''), {
      name: 'first kernel',
      profile: { layout: layoutOf(strategy), strategies: [strategy] },
      hooks: createKernelHooks(),
    })
    this.#room = roomOf(this.kernel)
    this.virtualAddressMap = this.#made()
  }

  /** Switches a machine on and boots the kernel. */
  static start(options: SessionOptions): Session {
    const { snapshot, onInstruction } = options
    const recorder = new CallRecorder(new Interpreter(), onInstruction)
    const firmware = createFirmware({ name: snapshot.name, snapshot, executor: recorder })
    return new Session(options, { firmware, recorder }, firmware.powerOn())
  }

  /** A session after a power cycle of this one's machine. */
  restart(): Session {
    const [firmware, recorder] = [this.#firmware, this.#recorder]
    return new Session(
      this.#options,
      { firmware, recorder },
      firmware.afterReset(this.kernel.machine),
    )
  }

  /** Makes a call. Undefined where the firmware was not entered. */
  make<T>(prepare: (services: EfiServices) => PreparedCall<T>): Answer<T> | undefined {
    const { kernel } = this
    const prepared = prepare(
      new EfiServices(kernel, kernel.bootCpu, this.#options.place ?? 'stack'),
    )
    this.#recorder.arm(this.#ports)
    let result: ServiceResult<T> | undefined
    try {
      result = prepared.run()
    } catch (error) {
      if (!(error instanceof CpuException || error instanceof MachineReset)) throw error
      // The kernel has died with its locks held. The calls behind this one are compared all the same.
      kernel.heldLocks = new Map()
    }
    const call = this.#made()
    return call && { call, result }
  }

  #made(): MadeCall | undefined {
    const { entry, exit } = this.#recorder
    if (entry === undefined || exit === undefined) return undefined
    return { entry, exit, room: this.#room }
  }
}

/** The strategy without the choice of services that its system has made: what its page tables allow is asked of each of them. */
function callingAll({ definition, ...choice }: StrategyChoice): StrategyChoice {
  const create: typeof definition.create = (options) =>
    Object.defineProperty(definition.create(options), 'offers', { value: undefined })
  return { ...choice, definition: { ...definition, create } }
}

/** A page of the kernel's text and two of its data. */
function roomOf({ image }: Kernel): CallState['room'] {
  const data = image.staticPages(2)
  return {
    code: { virtual: image.start, physical: image.base },
    data: { virtual: image.virtualAddress(data), physical: data },
  }
}
