import { GATE_SIZE, type Machine, PAGE_SIZE } from '@trapdoor/core'
import type { Architecture, RuntimeServiceName } from '@trapdoor/uefi'
import { FirmwareError } from '../error.ts'
import { bindFunction } from '../quirk/bind-function.ts'
import type { FirmwareCall, FirmwareService } from '../quirk/firmware-call.ts'
import type { FirmwareHooks } from '../quirk/hooks.ts'
import { readNatural, writeNatural } from './natural.ts'
import {
  DATA_OFFSET,
  GATES_OFFSET,
  IMAGE_PAGES,
  type ImageLayout,
  SLOTS_OFFSET,
} from './image-layout.ts'

/** Where an image is. Addresses are physical, in bytes. */
export interface ImagePlacement {
  /** Name as edk2 has it, such as "VariableRuntimeDxe". */
  readonly name: string
  readonly base: number
  readonly bytes: number
  /** Its functions, in the order of their addresses. */
  readonly gates: readonly { readonly name: string; readonly address: number }[]
  /** Its absolute pointers. */
  readonly slots: readonly {
    readonly name: string
    readonly address: number
    readonly conversion: PointerConversion
  }[]
}

/**
 * Who changes a pointer in SetVirtualAddressMap: `fixup` a PE relocation, `event` the driver's own address-change event through
 * ConvertPointer, `none` nobody.
 */
export type PointerConversion = 'fixup' | 'event' | 'none'

/** What an image is laid out in. */
export interface ImageEnvironment {
  readonly machine: Machine
  readonly hooks: FirmwareHooks
  readonly architecture: Architecture
}

/** An image while it is laid out: a page of gates, and a page of data words and pointer slots. */
export class RuntimeImage implements ImageLayout {
  readonly name: string
  readonly architecture: Architecture
  /** Physical address in bytes. */
  readonly base: number
  readonly bytes: number = IMAGE_PAGES * PAGE_SIZE
  readonly slots: Map<string, number> = new Map()
  readonly #machine: Machine
  readonly #hooks: FirmwareHooks
  readonly #gates: Map<string, number> = new Map()
  readonly #conversions: Map<string, PointerConversion> = new Map()

  constructor(name: string, base: number, { machine, hooks, architecture }: ImageEnvironment) {
    this.name = name
    this.architecture = architecture
    this.base = base
    this.#machine = machine
    this.#hooks = hooks
  }

  /** Physical address of the image's data words. */
  get data(): number {
    return this.base + DATA_OFFSET
  }

  /** Adds a runtime service, with the quirks' hooks around it. Returns its physical address. */
  service(name: RuntimeServiceName, body: (call: FirmwareCall) => bigint): number {
    const { beforeService, afterService } = this.#hooks
    return this.code(name, name, (call) => {
      const status = beforeService.call(call) ?? body(call)
      return afterService.call(status, call)
    })
  }

  /** Adds a function that runs in the name of `service`. Returns its physical address. */
  code(name: string, service: FirmwareService, body: (call: FirmwareCall) => bigint): number {
    const offset = GATES_OFFSET + this.#gates.size * GATE_SIZE * 2
    if (offset + GATE_SIZE > DATA_OFFSET) throw this.#full('functions')
    const gate = bindFunction(this.#machine, this, { name, service, offset, run: body })
    this.#machine.memory.write(this.base + offset, gate)
    this.#gates.set(name, offset)
    return this.base + offset
  }

  /** Physical address of a function. */
  gate(name: string): number {
    const offset = this.#gates.get(name)
    if (offset === undefined) {
      throw new FirmwareError('FIRMWARE_BAD_SETUP', {
        expected: `a function of ${this.name}`,
        found: `"${name}"`,
      })
    }
    return this.base + offset
  }

  /** Adds a slot with a pointer. */
  pointer(name: string, value: number | bigint, conversion: PointerConversion): void {
    const { naturalBytes } = this.architecture
    const offset = SLOTS_OFFSET + this.slots.size * naturalBytes
    if (this.slots.has(name)) {
      throw new FirmwareError('FIRMWARE_BAD_SETUP', {
        expected: `a slot that ${this.name} does not have yet`,
        found: `"${name}"`,
        hint: 'put the number of the quirk into the name of its slots',
      })
    }
    if (offset + naturalBytes > this.bytes) throw this.#full('pointer slots')
    writeNatural(this.architecture, this.#machine.memory, this.base + offset, BigInt(value))
    this.slots.set(name, offset)
    this.#conversions.set(name, conversion)
  }

  /** What a slot holds; 0 where there is none of this name. */
  slotValue(name: string): bigint {
    const offset = this.slots.get(name)
    if (offset === undefined) return 0n
    return readNatural(this.architecture, this.#machine.memory, this.base + offset)
  }

  /** Names of the slots that are converted in this way, and their offsets in the image. */
  slotsOf(conversion: PointerConversion): readonly (readonly [name: string, offset: number])[] {
    return [...this.slots].filter(([name]) => this.#conversions.get(name) === conversion)
  }

  /** What reports say of it. */
  placement(): ImagePlacement {
    return {
      name: this.name,
      base: this.base,
      bytes: this.bytes,
      gates: [...this.#gates].map(([name, offset]) => ({ name, address: this.base + offset })),
      slots: [...this.slots].map(([name, offset]) => ({
        name,
        address: this.base + offset,
        conversion: this.#conversions.get(name) ?? 'none',
      })),
    }
  }

  #full(what: string): FirmwareError {
    return new FirmwareError('FIRMWARE_NO_ROOM', {
      expected: `room for more ${what} in ${this.name}`,
      found: 'a full page',
    })
  }
}
