import { hex, type MapReader } from './reader.ts'

const LINE =
  /^MMap\[(\d+)\]: 0x([0-9a-f]+) - 0x([0-9a-f]+) len=(\d+), type=(\d+), attr=0x([0-9a-f]+)$/i

/** What VMware's boot loader prints; ends are inclusive, `len` is in bytes. A line may come twice. */
export const esxMmap: MapReader = {
  formats: ['esx_mmap'],
  end: 'next-line',
  needsHeader: false,
  openEnded: true,
  entry: (line) => {
    const match = LINE.exec(line)
    if (match === null) return undefined
    const [, number, start, last, bytes, type, attribute] = match as unknown as string[]
    return {
      format: 'esx_mmap',
      number: Number(number),
      entry: {
        type: Number(type),
        start: hex(start!),
        pages: (BigInt(bytes!) + 0xfffn) >> 12n,
        attribute: hex(attribute!),
      },
      printed: { end: hex(last!) + 1n },
    }
  },
  torn: (line) => /MMap\[\d+\]:|len=\d+, type=\d/i.test(line),
}
