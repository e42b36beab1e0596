import {
  type CpuFeatures,
  formatAddress,
  type InstructionExecutor,
  type Machine,
  PAGE_SIZE,
  QEMU_TCG,
} from '@trapdoor/core'
import type { FirmwareSnapshot } from '@trapdoor/snapshot'
import {
  type Architecture,
  ARCHITECTURES,
  descriptorEnd,
  formatMemoryAttribute,
  type MemoryDescriptor,
  memoryTypeName,
} from '@trapdoor/uefi'
import type { ImagePlacement } from './layout/image.ts'
import { type LaidOutMachine, layOutMachine } from './power-on.ts'
import { applyQuirks } from './quirk/apply-quirks.ts'
import type { Quirk } from './quirk/quirk.ts'
import { driftMemoryMap } from './layout/drift.ts'
import { powerOnSnapshot } from './real/power-on-snapshot.ts'
import type { MemoryAttributesPlace } from './tables/memory-attributes.ts'

/** What all firmware variants have. */
interface VariantOptions {
  readonly name: string
  /** Default: none. */
  readonly quirks?: readonly Quirk[]
  /** Default 1. */
  readonly cpus?: number
}

/** What makes a variant of the modelled firmware. */
export interface ModelledFirmwareOptions extends VariantOptions {
  /** A machine's memory map, in its own order, as GetMemoryMap reported it before ExitBootServices. */
  readonly memoryMap: readonly MemoryDescriptor[]
  /** What the firmware is built for; default x64. A firmware for ia32 keeps what is its own below 4 GiB. */
  readonly architecture?: Architecture['name']
  /** Default: core's NEHALEM. */
  readonly features?: CpuFeatures
  /**
   * The memory attributes table (UEFI 2.10, 4.6.4): by default one that says where the images' code is; `none`; or that of a captured machine, in which case images go where
   * it has code with data behind.
   */
  readonly memoryAttributesTable?: 'none' | MemoryAttributesPlace
}

/** What makes a variant of a real firmware. */
export interface RealFirmwareOptions extends VariantOptions {
  readonly snapshot: FirmwareSnapshot
  /** Who carries out its instructions. */
  readonly executor: InstructionExecutor
  /** Instructions of one call after which it is taken for one that does not end. Default: none. */
  readonly instructionLimit?: number
  /** Default: core's QEMU_TCG, with as many levels of paging as the machine had on which the snapshot was taken. */
  readonly features?: CpuFeatures
}

/** What makes a firmware variant: a model of edk2 on a machine's memory map, or a real firmware. */
export type FirmwareOptions = ModelledFirmwareOptions | RealFirmwareOptions

/** A machine as the firmware hands it to a boot loader, which gets nothing else. */
export interface PoweredMachine {
  readonly machine: Machine
  /** Physical address of the EFI system table, in bytes. */
  readonly systemTable: number
  readonly imageHandle: bigint
  /** What a loader has to be built for. */
  readonly architecture: Architecture
}

/**
 * Lays out a machine with this firmware. Throws FIRMWARE_BAD_QUIRK for a quirk with an unknown hook or of another architecture, FIRMWARE_NO_ROOM where the map has no
 * room for the firmware's images and data, FIRMWARE_BAD_SETUP and FIRMWARE_QUIRK_FAILED for a quirk that cannot be set up.
 */
export function createFirmware(options: FirmwareOptions): Firmware {
  return new Firmware(options)
}

/** A firmware variant, and the machine that was powered on with it once. All its state is in that machine's memory. */
export class Firmware {
  readonly name: string
  readonly architecture: Architecture
  /** The map as GetMemoryMap reports it at power-on. */
  readonly memoryMap: readonly MemoryDescriptor[]
  /** Where its runtime images are: for reports, not for callers. */
  readonly images: readonly ImagePlacement[]
  readonly #laidOut: LaidOutMachine
  readonly #options: FirmwareOptions
  #drifted: Firmware | undefined

  constructor(options: FirmwareOptions) {
    this.#options = options
    const { name, quirks = [] } = options
    const architecture =
      'snapshot' in options ? options.snapshot.architecture : (options.architecture ?? 'x64')
    const hooks = applyQuirks(quirks, architecture)
    this.name = name
    this.architecture = ARCHITECTURES[architecture]
    this.#laidOut =
      'snapshot' in options
        ? powerOnSnapshot(
            options.snapshot,
            { ...options, features: options.features ?? featuresOf(options.snapshot) },
            hooks.memoryMap.call(options.snapshot.memoryMap),
            hooks,
          )
        : layOutMachine(
            { ...options, architecture: this.architecture },
            hooks.memoryMap.call(options.memoryMap),
            hooks,
          )
    this.memoryMap = this.#laidOut.memoryMap
    this.images = this.#laidOut.images
  }

  /** A machine that was just switched on, and that shares nothing with others but what neither writes. */
  powerOn(): PoweredMachine {
    const { machine, systemTable, imageHandle } = this.#laidOut
    const { architecture } = this
    return { machine: machine.fork(), systemTable, imageHandle, architecture }
  }

  /**
   * The machine after a power cycle of `machine`, which ran with `before` (default this firmware): what is in the NV store and in CMOS stays, a capsule that waits for the
   * reset is processed where `memory` was kept, and all else is as after {@link powerOn}. A real firmware has its flash in place of the store, and processes no capsules.
   */
  afterReset(
    machine: Machine,
    { before = this, memory = 'lost' }: { before?: Firmware; memory?: 'lost' | 'kept' } = {},
  ): PoweredMachine {
    const powered = this.powerOn()
    const stopped = { machine, firmware: before.#laidOut, memory }
    this.#laidOut.keepOverReset(stopped, powered.machine)
    powered.machine.log.continueFrom(machine.log)
    return powered
  }

  /**
   * This firmware on the same machine, with its runtime memory {@link driftMemoryMap | elsewhere}, as another boot of it may have it. A real firmware is where it was captured: two boots of OVMF on the same machine do not
   * differ.
   */
  drifted(): Firmware {
    const options = this.#options
    if ('snapshot' in options) return this
    this.#drifted ??= new Firmware({ ...options, memoryMap: driftMemoryMap(options.memoryMap) })
    return this.#drifted
  }

  /**
   * What is at a physical address: descriptor of the reported map, its type, range and attributes, and who owned the frame at power-on,
   * such as "descriptor 12: RuntimeServicesCode 0x…-0x… RUNTIME|WB, image VariableRuntimeDxe". Ranges print their last byte.
   */
  describePhysical(address: number): string {
    const index = this.memoryMap.findIndex(
      (each) => address >= each.physicalStart && address < descriptorEnd(each),
    )
    const owner = this.#laidOut.machine.memory.owners.get(Math.floor(address / PAGE_SIZE))
    const image = this.images.find((each) => each.name === owner?.name)
    const whose = owner === undefined ? '' : `, ${image === undefined ? '' : 'image '}${owner.name}`
    const descriptor = this.memoryMap[index]
    if (descriptor === undefined) return `no descriptor${whose}`
    const { type, physicalStart, attribute } = descriptor
    const last = descriptorEnd(descriptor) - 1
    const range = `${formatAddress(physicalStart)}-${formatAddress(last)}`
    const text = `descriptor ${index}: ${memoryTypeName(type)} ${range} ${formatMemoryAttribute(attribute)}`
    return `${text}${owner?.name === memoryTypeName(type) ? '' : whose}`
  }
}

/** The processor that firmware was captured on, as far as its model is known: QEMU's, which knows 5-level paging unless it is told not to. */
function featuresOf({ la57 }: FirmwareSnapshot): CpuFeatures {
  return { ...QEMU_TCG, la57 }
}
