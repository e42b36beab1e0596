import { CaptureError } from '../error.ts'

/** What a stub can send. */
export type Received =
  | { readonly kind: 'packet'; readonly payload: string }
  | { readonly kind: 'acknowledged' | 'refused' }

/** A packet as it goes over the line: `$payload#checksum` (GDB manual, "Overview" of the remote protocol). The payload is of ASCII without `#`, `$` and `}`. */
export function encodePacket(payload: string): string {
  return `$${payload}#${checksum(payload)}`
}

/** Takes what arrives apart into packets, however it was cut. Run-length encoding is undone. */
export class PacketReader {
  #pending = ''

  /** Everything that is complete with these characters. Throws CAPTURE_PROTOCOL where a checksum is wrong or something else stands between packets. */
  read(text: string): Received[] {
    this.#pending += text
    const received: Received[] = []
    for (;;) {
      const next = this.#next()
      if (next === undefined) return received
      received.push(next)
    }
  }

  #next(): Received | undefined {
    const [first] = this.#pending
    if (first === '+' || first === '-') {
      this.#pending = this.#pending.slice(1)
      return { kind: first === '+' ? 'acknowledged' : 'refused' }
    }
    const end = this.#pending.indexOf('#')
    if (first === undefined || (first === '$' && (end < 0 || this.#pending.length < end + 3))) {
      return undefined
    }
    const body = this.#pending.slice(1, end)
    const sum = this.#pending.slice(end + 1, end + 3)
    if (first !== '$' || checksum(body) !== sum.toLowerCase()) {
      throw new CaptureError('CAPTURE_PROTOCOL', {
        expected: 'a packet of the GDB remote protocol with its checksum',
        found: JSON.stringify(this.#pending.slice(0, 80)),
      })
    }
    this.#pending = this.#pending.slice(end + 3)
    return { kind: 'packet', payload: expanded(body) }
  }
}

function checksum(payload: string): string {
  let sum = 0
  for (let index = 0; index < payload.length; index++) sum += payload.charCodeAt(index)
  return (sum & 0xff).toString(16).padStart(2, '0')
}

/** `0*"` is 0 and five more of it: the count is the character's code less 29. */
function expanded(body: string): string {
  return body.replaceAll(/(.)\*(.)/gs, (_, repeated: string, count: string) =>
    repeated.repeat(count.charCodeAt(0) - 28),
  )
}
