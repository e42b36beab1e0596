import { PassThrough } from 'node:stream'
import { GdbClient } from '../src/qemu/gdb-client.ts'
import { encodePacket, PacketReader } from '../src/qemu/packets.ts'

/** A stub of the GDB remote protocol as QEMU has one, for a machine with a little memory and two registers. */
export class Stub {
  readonly client: GdbClient
  readonly memory = new Uint8Array(0x3000)
  readonly registers: Uint8Array[] = [new Uint8Array(8), new Uint8Array(4), new Uint8Array(8)]
  readonly breakpoints = new Set<number>()
  /** Requests, in order. */
  readonly requests: string[] = []
  /** Answers that take the place of those of the stub, by request. */
  readonly answers = new Map<string, readonly string[]>()
  readonly #toClient = new PassThrough()

  constructor() {
    const fromClient = new PassThrough()
    this.client = new GdbClient(this.#toClient, fromClient)
    const reader = new PacketReader()
    fromClient.on('data', (bytes: Buffer) => {
      for (const received of reader.read(bytes.toString('latin1'))) {
        if (received.kind !== 'packet') continue
        this.requests.push(received.payload)
        this.#toClient.write('+')
        const answers = this.answers.get(received.payload) ?? this.#answer(received.payload)
        for (const answer of answers) this.#toClient.write(encodePacket(answer), 'latin1')
      }
    })
  }

  #answer(request: string): string[] {
    const [, kind = '', rest] =
      /^(qXfer:features:read:|qRcmd,|qSupported|Z1,|z1,|[mMpPc])(.*)$/s.exec(request)!
    const [first = '', second = ''] = rest!.split(/[,:=]/)
    switch (kind) {
      case 'qSupported':
        return ['PacketSize=1000;qXfer:features:read+']
      case 'qXfer:features:read:':
        return [this.#describe(rest!)]
      case 'qRcmd,':
        return [
          `O${Buffer.from('you said ').toString('hex')}`,
          `O${Buffer.from(Buffer.from(rest!, 'hex')).toString('hex')}`,
          'OK',
        ]
      case 'Z1,':
        this.breakpoints.add(Number(`0x${first}`))
        return ['OK']
      case 'z1,':
        this.breakpoints.delete(Number(`0x${first}`))
        return ['OK']
      case 'm': {
        const start = Number(`0x${first}`)
        const bytes = this.memory.subarray(start, start + Number(`0x${second}`))
        return [Buffer.from(bytes).toString('hex')]
      }
      case 'M':
        this.memory.set(Buffer.from(rest!.split(':')[1]!, 'hex'), Number(`0x${first}`))
        return ['OK']
      case 'p':
        return [Buffer.from(this.registers[Number(`0x${first}`)]!).toString('hex')]
      case 'P':
        this.registers[Number(`0x${first}`)]!.set(Buffer.from(second, 'hex'))
        return ['OK']
      default:
        return ['T05thread:01;']
    }
  }

  #describe(request: string): string {
    const [, file, offset, length] = /^(.*):([\da-f]+),([\da-f]+)$/.exec(request)!
    const text = DESCRIPTIONS[file!]!
    const start = Number.parseInt(offset!, 16)
    // A part at a time, as QEMU sends no more than its buffer holds.
    const end = Math.min(start + Number.parseInt(length!, 16), start + 50)
    return `${end < text.length ? 'm' : 'l'}${text.slice(start, end)}`
  }
}

const DESCRIPTIONS: Readonly<Record<string, string>> = {
  'target.xml': '<target><xi:include href="core.xml"/></target>',
  'core.xml': [
    '<feature name="org.gnu.gdb.i386.core">',
    '<reg name="rax" bitsize="64" type="int64" regnum="0"/>',
    '<reg name="eflags" bitsize="32"/>',
    '<!-- <reg name="not_there" bitsize="64"/> -->',
    '<reg name="rip" bitsize="64"/></feature>',
  ].join('\n'),
}
