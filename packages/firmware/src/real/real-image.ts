import type { Machine } from '@trapdoor/core'
import type { FirmwareImage } from '@trapdoor/snapshot'
import {
  type Architecture,
  decodePeHeaders,
  RUNTIME_SERVICES,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import { FirmwareError } from '../error.ts'
import type { ImageLayout } from '../layout/image-layout.ts'
import type { ImagePlacement, PointerConversion } from '../layout/image.ts'
import { writeNatural } from '../layout/natural.ts'

const HEADER_PAGE = 4096
/** Bytes of the DOS header, whose last word says where the other headers are. */
const DOS_HEADER_BYTES = 0x40

/**
 * An image of a real firmware in memory. Quirks keep their pointers where no code and no data is: between the DOS header and the others, in a page that the memory attributes table calls
 * data.
 */
export class RealImage implements ImageLayout {
  readonly name: string
  readonly architecture: Architecture
  /** Physical address in bytes. */
  readonly base: number
  readonly bytes: number
  readonly slots: Map<string, number> = new Map()
  readonly #machine: Machine
  readonly #conversions: Map<string, PointerConversion> = new Map()
  /** Where the room for slots ends. */
  readonly #roomEnd: number

  constructor({ name, base, bytes }: FirmwareImage, machine: Machine, architecture: Architecture) {
    this.name = name
    this.base = base
    this.bytes = bytes
    this.architecture = architecture
    this.#machine = machine
    const headers = decodePeHeaders(machine.memory.read(base, HEADER_PAGE))
    this.#roomEnd = headers?.signature ?? 0
  }

  /** Whether a physical address lies in it. */
  holds(address: number): boolean {
    return address >= this.base && address < this.base + this.bytes
  }

  /** Adds a slot with a pointer. Throws FIRMWARE_NO_ROOM where the image has none left. */
  pointer(name: string, value: number | bigint, conversion: PointerConversion): void {
    const { naturalBytes } = this.architecture
    const offset = DOS_HEADER_BYTES + this.slots.size * naturalBytes
    if (this.slots.has(name)) {
      throw new FirmwareError('FIRMWARE_BAD_SETUP', {
        expected: `a slot that ${this.name} does not have yet`,
        found: `"${name}"`,
        hint: 'put the number of the quirk into the name of its slots',
      })
    }
    if (offset + naturalBytes > this.#roomEnd) {
      throw new FirmwareError('FIRMWARE_NO_ROOM', {
        expected: `room for a pointer between the headers of ${this.name}`,
        found: `${Math.max(0, this.#roomEnd - DOS_HEADER_BYTES)} bytes`,
      })
    }
    writeNatural(this.architecture, this.#machine.memory, this.base + offset, BigInt(value))
    this.slots.set(name, offset)
    this.#conversions.set(name, conversion)
  }

  /** Offsets in the image of the slots that are converted in this way. */
  slotsOf(conversion: PointerConversion): readonly number[] {
    return [...this.slots]
      .filter(([name]) => this.#conversions.get(name) === conversion)
      .map(([, offset]) => offset)
  }

  /** What reports say of it; its functions are the runtime services that lead into it. */
  placement(services: ReadonlyMap<RuntimeServiceName, number>): ImagePlacement {
    return {
      name: this.name,
      base: this.base,
      bytes: this.bytes,
      gates: RUNTIME_SERVICES.map((name) => ({ name, address: services.get(name) ?? 0 }))
        .filter(({ address }) => this.holds(address))
        .toSorted((a, b) => a.address - b.address),
      slots: [...this.slots].map(([name, offset]) => ({
        name,
        address: this.base + offset,
        conversion: this.#conversions.get(name) ?? 'none',
      })),
    }
  }
}
