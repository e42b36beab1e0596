import type { Access } from '../cpu/exception.ts'
import type { Rewind } from '../rewind.ts'

/** What page tables, or a cache of them, give for an address. */
export type TranslationNow =
  | { readonly status: 'not-present' | 'reserved-bit' }
  | {
      readonly status: 'mapped'
      /** Frame of 4 KiB. */
      readonly frame: number
      readonly writable: boolean
      readonly user: boolean
      readonly executable: boolean
      readonly protectionKey: number
    }

/** A translation that outlived the page-table entries it came from. */
export interface StaleTranslation {
  readonly cpu: number
  readonly address: bigint
  readonly via: 'TLB' | 'paging-structure cache'
  readonly held: TranslationNow
  readonly now: TranslationNow
  /** Who changed the entries, such as "first kernel" or "VariableRuntimeDxe: SetVariable on CPU 1"; undefined where another root was loaded. */
  readonly changedBy: string | undefined
}

/** What happened, by kind. Addresses are in bytes; linear ones are bigint, physical ones numbers. */
export type MachineEventBody =
  | { readonly kind: 'phase'; readonly name: string }
  | {
      readonly kind: 'message'
      readonly source: 'kernel' | 'firmware' | 'loader'
      readonly text: string
    }
  | { readonly kind: 'cr3-write'; readonly cpu: number; readonly from: number; readonly to: number }
  | { readonly kind: 'cr4-write'; readonly cpu: number; readonly from: number; readonly to: number }
  | { readonly kind: 'invlpg'; readonly cpu: number; readonly address: bigint }
  | {
      readonly kind: 'invpcid'
      readonly cpu: number
      readonly type: 0 | 1 | 2 | 3
      readonly pcid: number
      readonly address: bigint
    }
  /** A CPU made others drop translations. */
  | { readonly kind: 'shootdown'; readonly cpu: number; readonly targets: readonly number[] }
  /** A CPU used a translation that the page tables no longer give. */
  | ({ readonly kind: 'stale-translation'; readonly access: Access } & StaleTranslation)
  /** A mapping was changed and never flushed: a CPU still holds what it was. */
  | ({ readonly kind: 'unflushed-change' } & StaleTranslation)
  | {
      readonly kind: 'call'
      readonly cpu: number
      readonly rip: bigint
      readonly name: string
      readonly image: string
    }
  | {
      readonly kind: 'return'
      readonly cpu: number
      readonly name: string
      readonly image: string
      readonly rax: bigint
    }
  | {
      readonly kind: 'exception'
      readonly cpu: number
      readonly mnemonic: string
      readonly message: string
      readonly address: bigint | undefined
      readonly access: Access | undefined
      readonly errorCode: number | undefined
    }
  /** A CPU entered the handler of an interrupt or exception. */
  | {
      readonly kind: 'interrupt'
      readonly cpu: number
      readonly vector: number
      readonly errorCode: number | undefined
      readonly handler: bigint
    }
  /** A CPU could not deliver an event, nor the double fault in its place, and shut down. */
  | { readonly kind: 'triple-fault'; readonly cpu: number; readonly vector: number }
  | { readonly kind: 'reset'; readonly port: number; readonly value: number }

/** An event with its place in the order of all. */
export type MachineEvent = MachineEventBody & {
  /** 0 for the first event of a machine, then one more each. */
  readonly sequence: number
  /** The program that runs, such as "first kernel". */
  readonly era: string
}

/** The events of a machine, in order. A fork starts with its parent's. */
export class EventLog {
  /** Put into every event from now on; the kernel that boots says who it is. */
  era = 'firmware'
  /** Whether events are kept. Who runs programs for billions of instructions, and asks for no evidence, switches it off. */
  isRecording = true
  /** What happened, and in which era. Most logs are never read: events are made of it when somebody does. */
  #bodies: MachineEventBody[] = []
  #eras: string[] = []
  #events: MachineEvent[] = []

  /** All events so far. */
  get events(): readonly MachineEvent[] {
    for (let sequence = this.#events.length; sequence < this.#bodies.length; sequence++) {
      this.#events.push({ ...this.#bodies[sequence]!, sequence, era: this.#eras[sequence]! })
    }
    return this.#events
  }

  emit(body: MachineEventBody): void {
    if (!this.isRecording) return
    this.#bodies.push(body)
    this.#eras.push(this.era)
  }

  /** Goes on from the events of another log, in place of its own: a machine that was switched off and on is the same one. */
  continueFrom(other: EventLog): void {
    this.#take(other.#bodies, other.#eras, other.#bodies.length)
  }

  /** Remembers which events there are at this moment. */
  checkpoint(): Rewind {
    const { era } = this
    const bodies = this.#bodies
    const eras = this.#eras
    const { length } = bodies
    return () => {
      this.era = era
      this.#take(bodies, eras, length)
    }
  }

  /** A copy that goes its own way. */
  fork(): EventLog {
    const copy = new EventLog()
    copy.era = this.era
    copy.isRecording = this.isRecording
    copy.continueFrom(this)
    return copy
  }

  #take(bodies: readonly MachineEventBody[], eras: readonly string[], length: number): void {
    this.#bodies = bodies.slice(0, length)
    this.#eras = eras.slice(0, length)
    this.#events = []
  }
}
