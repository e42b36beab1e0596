import { hex, type MapReader } from './reader.ts'

const LINE =
  /^(?:<\d>)?MMap\[(\d+)\]: 0x([0-9a-f]+) - 0x([0-9a-f]+) len=(\d+), type=(\d+), attr=0x([0-9a-f]+)/i

/** What VMware's boot loader prints; `len` is in bytes. A line may come twice. */
export const esxMmap: MapReader = {
  formats: ['esx_mmap'],
  end: 'next-line',
  needsHeader: false,
  entry: (line) => {
    const match = LINE.exec(line)
    if (match === null) return undefined
    const [, number, start, , bytes, type, attribute] = match as unknown as string[]
    return {
      format: 'esx_mmap',
      number: Number(number),
      entry: {
        type: Number(type),
        start: hex(start!),
        pages: (BigInt(bytes!) + 0xfffn) >> 12n,
        attribute: hex(attribute!),
      },
    }
  },
  torn: (line) => /^(?:<\d>)?MMap\[\d+\]: ?(?:0x|$)/i.test(line),
}
