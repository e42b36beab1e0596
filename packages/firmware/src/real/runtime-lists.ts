import type { PhysicalMemory } from '@trapdoor/core'
import type { Architecture } from '@trapdoor/uefi'
import { readNatural, writeNatural } from '../layout/natural.ts'
import type { RealImage } from './real-image.ts'

/** A doubly linked list of edk2, by the address of its head: forward link, then backward link. */
const BACKWARD = 1
/** EFI_RUNTIME_EVENT_ENTRY (PI 1.7, volume 2, 12.2): members in words of natural size. */
const EventEntry = {
  Type: 0,
  NotifyFunction: 2,
  NotifyContext: 3,
  Event: 4,
  Link: 5,
  Words: 7,
} as const
/** EVT_SIGNAL_VIRTUAL_ADDRESS_CHANGE (UEFI 2.10, 7.1). */
const SIGNAL_VIRTUAL_ADDRESS_CHANGE = 0x6000_0202
/** TPL_NOTIFY. */
const NOTIFY_TPL = 16n
const MOST_ENTRIES = 1024

/** A function that SetVirtualAddressMap calls before it relocates images. */
export interface RuntimeEvent {
  /** Physical address. */
  readonly notify: number
  /** The image that it belongs to; undefined for code outside of all images. */
  readonly image: RealImage | undefined
}

/**
 * The lists of the EFI_RUNTIME_ARCH_PROTOCOL, which RuntimeDxe walks in SetVirtualAddressMap: images that are to be relocated, and events that are to be signalled. edk2 has them in one structure in RuntimeDxe's
 * data, head of the images first, which is how it is found: a list there whose entries say where the known images are.
 */
export class RuntimeLists {
  readonly #memory: PhysicalMemory
  readonly #architecture: Architecture
  readonly #imageHead: number

  private constructor(memory: PhysicalMemory, architecture: Architecture, imageHead: number) {
    this.#memory = memory
    this.#architecture = architecture
    this.#imageHead = imageHead
  }

  /** Undefined where RuntimeDxe is not edk2's. */
  static find(
    memory: PhysicalMemory,
    runtimeDxe: RealImage,
    images: readonly RealImage[],
  ): RuntimeLists | undefined {
    const { architecture, base, bytes } = runtimeDxe
    const word = architecture.naturalBytes
    // ImageBase, ImageSize of 64 bits, RelocationData, Handle.
    const linkOffset = word === 8 ? 32 : 24
    const bases = new Set(images.map((image) => image.base))
    for (let head = base; head + 2 * word <= base + bytes; head += word) {
      const lists = new RuntimeLists(memory, architecture, head)
      const entries = lists.#walk(head)
      const isImages =
        entries !== undefined &&
        entries.length > 0 &&
        entries.every((link) => bases.has(lists.#word(link - linkOffset)))
      if (isImages) return lists
    }
    return undefined
  }

  /** The events for a change of addresses, in the order in which they are signalled. */
  events(images: readonly RealImage[]): RuntimeEvent[] {
    const word = this.#architecture.naturalBytes
    return (this.#walk(this.#eventHead) ?? []).flatMap((link) => {
      const entry = link - EventEntry.Link * word
      const type = this.#memory.read32(entry + EventEntry.Type * word)
      const isSignalled = (type & SIGNAL_VIRTUAL_ADDRESS_CHANGE) === SIGNAL_VIRTUAL_ADDRESS_CHANGE
      if (!isSignalled) return []
      const notify = this.#word(entry + EventEntry.NotifyFunction * word)
      return [{ notify, image: images.find((image) => image.holds(notify)) }]
    })
  }

  /** Adds an event behind all others, with its entry at `place`, in runtime memory. */
  addEvent(place: number, notify: number): void {
    const word = this.#architecture.naturalBytes
    const [head, link] = [this.#eventHead, place + EventEntry.Link * word]
    const last = this.#word(head + BACKWARD * word)
    this.#memory.write32(place + EventEntry.Type * word, SIGNAL_VIRTUAL_ADDRESS_CHANGE)
    this.#setWord(place + word, NOTIFY_TPL)
    this.#setWord(place + EventEntry.NotifyFunction * word, notify)
    this.#setWord(place + EventEntry.NotifyContext * word, 0)
    this.#setWord(place + EventEntry.Event * word, place)
    this.#setWord(link, head)
    this.#setWord(link + BACKWARD * word, last)
    this.#setWord(last, link)
    this.#setWord(head + BACKWARD * word, link)
  }

  /** Bytes of an entry. */
  get entryBytes(): number {
    return EventEntry.Words * this.#architecture.naturalBytes
  }

  get #eventHead(): number {
    return this.#imageHead + 2 * this.#architecture.naturalBytes
  }

  /** Addresses of the links of a list, up to its head again; undefined where the words are none. */
  #walk(head: number): number[] | undefined {
    const word = this.#architecture.naturalBytes
    const links: number[] = []
    let before = head
    for (let link = this.#word(head); link !== head; link = this.#word(link)) {
      const isLink = link !== 0 && link % 4 === 0 && this.#word(link + BACKWARD * word) === before
      if (!isLink || links.length === MOST_ENTRIES) return undefined
      links.push(link)
      before = link
    }
    return links
  }

  #word(address: number): number {
    const value = readNatural(this.#architecture, this.#memory, address)
    return value < 2n ** 52n - 16n ? Number(value) : 0
  }

  #setWord(address: number, value: number | bigint): void {
    writeNatural(this.#architecture, this.#memory, address, BigInt(value))
  }
}
