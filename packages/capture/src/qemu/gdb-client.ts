import type { Readable, Writable } from 'node:stream'
import { CaptureError } from '../error.ts'
import { encodePacket, PacketReader } from './packets.ts'

/** Why the machine stands still. */
export interface Stop {
  /** As the stub says it, such as "T05thread:01;". */
  readonly reason: string
}

/** A register as the stub describes it. */
interface RegisterDescription {
  readonly number: number
  readonly bytes: number
}

/** Bytes of memory in one packet; QEMU's buffer has 4096 characters, two for each byte. */
const MEMORY_IN_PACKET = 1024

/**
 * Speaks the GDB remote protocol with the stub of an emulator (GDB manual, appendix E), one request after another. The machine stands still but for the time that `run` takes.
 * Every method throws CAPTURE_PROTOCOL where the stub answers with an error, and what `fail` was given where the emulator has gone.
 */
export class GdbClient {
  readonly #output: Writable
  readonly #reader = new PacketReader()
  readonly #packets: string[] = []
  #waiting: { resolve(payload: string): void; reject(error: unknown): void } | undefined
  #failure: Error | undefined
  #registers: ReadonlyMap<string, RegisterDescription> | undefined

  constructor(input: Readable, output: Writable) {
    this.#output = output
    input.setEncoding('latin1')
    input.on('data', (text: string) => {
      try {
        this.#receive(text)
      } catch (error) {
        this.fail(error instanceof Error ? error : new Error(String(error)))
      }
    })
    // A broken pipe is told by the end of the emulator.
    output.on('error', () => {})
  }

  /** Nothing more will come: whoever waits is told why. */
  fail(error: Error): void {
    this.#failure ??= error
    this.#waiting?.reject(this.#failure)
    this.#waiting = undefined
  }

  /** Runs the machine until it stops by itself: at a breakpoint, as a rule. */
  async run(): Promise<Stop> {
    const reason = await this.#request('c')
    if (!/^[ST][\da-f]{2}/.test(reason)) throw unexpected('a reason to stop', reason)
    return { reason }
  }

  /** A command of QEMU's monitor; what it prints (qRcmd). */
  async monitor(command: string): Promise<string> {
    this.#send(`qRcmd,${Buffer.from(command, 'latin1').toString('hex')}`)
    let printed = ''
    for (;;) {
      const payload = await this.#payload()
      if (payload === 'OK') return printed
      if (!payload.startsWith('O')) throw unexpected('output of the monitor', payload)
      printed += Buffer.from(payload.slice(1), 'hex').toString('latin1')
    }
  }

  /** A hardware breakpoint at a linear address: TCG compares addresses, whatever is there. */
  async setBreakpoint(address: bigint): Promise<void> {
    await this.#command(`Z1,${address.toString(16)},1`)
  }

  async removeBreakpoint(address: bigint): Promise<void> {
    await this.#command(`z1,${address.toString(16)},1`)
  }

  /** Bytes from a linear address, read through the page tables of the moment. */
  async readMemory(address: bigint, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length)
    for (let at = 0; at < length; at += MEMORY_IN_PACKET) {
      const part = Math.min(MEMORY_IN_PACKET, length - at)
      const hex = await this.#request(
        `m${(address + BigInt(at)).toString(16)},${part.toString(16)}`,
      )
      if (hex.length !== part * 2) throw unexpected(`${part} bytes`, hex)
      bytes.set(Buffer.from(hex, 'hex'), at)
    }
    return bytes
  }

  /** Writes through the page tables of the moment; code that was translated from these bytes is forgotten. */
  async writeMemory(address: bigint, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += MEMORY_IN_PACKET) {
      const part = bytes.subarray(at, at + MEMORY_IN_PACKET)
      const place = `${(address + BigInt(at)).toString(16)},${part.length.toString(16)}`
      await this.#command(`M${place}:${Buffer.from(part).toString('hex')}`)
    }
  }

  /** A register by the name that the stub's target description gives it, such as "rip" or "cr3". */
  async readRegister(name: string): Promise<bigint> {
    const { number, bytes } = await this.#describe(name)
    const hex = await this.#request(`p${number.toString(16)}`)
    if (hex.length !== bytes * 2) throw unexpected(`${bytes} bytes of ${name}`, hex)
    return BigInt(`0x${reversed(hex)}`)
  }

  async writeRegister(name: string, value: bigint): Promise<void> {
    const { number, bytes } = await this.#describe(name)
    const hex = BigInt.asUintN(bytes * 8, value).toString(16)
    const digits = reversed(hex.padStart(bytes * 2, '0'))
    await this.#command(`P${number.toString(16)}=${digits}`)
  }

  async #describe(name: string): Promise<RegisterDescription> {
    this.#registers ??= await this.#readTargetDescription()
    const description = this.#registers.get(name)
    if (description === undefined) {
      throw unexpected(`a register ${name}`, [...this.#registers.keys()].join(' '))
    }
    return description
  }

  /** Registers are numbered in the order of the description, files that it includes among them, unless one has a regnum (GDB manual, G.2.8). */
  async #readTargetDescription(): Promise<ReadonlyMap<string, RegisterDescription>> {
    // The stub describes its registers to those only who have asked what it can do.
    await this.#request('qSupported:xmlRegisters=i386')
    const registers = new Map<string, RegisterDescription>()
    let next = 0
    const read = async (file: string): Promise<void> => {
      const xml = (await this.#readXml(file)).replaceAll(/<!--.*?-->/gs, '')
      for (const [element, tag] of xml.matchAll(/<(xi:include|reg)\s[^>]*>/g)) {
        const attribute = (key: string): string | undefined =>
          new RegExp(`\\s${key}="([^"]*)"`).exec(element)?.[1]
        if (tag === 'xi:include') {
          await read(attribute('href') ?? '')
        } else {
          const number = Number(attribute('regnum') ?? next)
          next = number + 1
          registers.set(attribute('name') ?? '', {
            number,
            bytes: Number(attribute('bitsize')) / 8,
          })
        }
      }
    }
    await read('target.xml')
    return registers
  }

  async #readXml(file: string): Promise<string> {
    let text = ''
    for (;;) {
      const reply = await this.#request(
        `qXfer:features:read:${file}:${text.length.toString(16)},400`,
      )
      if (!/^[ml]/.test(reply)) throw unexpected(`the target description ${file}`, reply)
      text += reply.slice(1)
      if (reply.startsWith('l')) return text
    }
  }

  async #command(payload: string): Promise<void> {
    const reply = await this.#request(payload)
    if (reply !== 'OK') throw unexpected(`OK to ${payload.slice(0, 40)}`, reply)
  }

  #request(payload: string): Promise<string> {
    this.#send(payload)
    return this.#payload()
  }

  #send(payload: string): void {
    this.#output.write(encodePacket(payload), 'latin1')
  }

  #payload(): Promise<string> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const payload = this.#packets.shift()
    if (payload !== undefined) return Promise.resolve(payload)
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
  }

  #receive(text: string): void {
    for (const received of this.#reader.read(text)) {
      if (received.kind !== 'packet') continue
      this.#output.write('+')
      // The emulator says that it ends. Why, its process tells.
      if (/^[WX][\da-f]{2}/.test(received.payload)) continue
      if (this.#waiting === undefined) this.#packets.push(received.payload)
      else this.#waiting.resolve(received.payload)
      this.#waiting = undefined
    }
  }
}

/** The bytes of a number in the other order. */
function reversed(hex: string): string {
  return (hex.match(/../g) ?? []).toReversed().join('')
}

function unexpected(expected: string, found: string): CaptureError {
  return new CaptureError('CAPTURE_PROTOCOL', {
    expected: `${expected} from the emulator's stub`,
    found: JSON.stringify(found.slice(0, 200)),
  })
}
