import { hex, type MapReader } from './reader.ts'

const LIST = /^(\d+) 0x([0-9a-f]+) 0x([0-9a-f]+) 0x([0-9a-f]+) 0x([0-9a-f]+) 0x([0-9a-f]+)$/i

/** One region of /sys/firmware/efi/runtime-map a line: number, type, physical and virtual address, pages, attribute. */
export const runtimeMapList: MapReader = {
  formats: ['runtime_map_list'],
  end: 'partial',
  needsHeader: false,
  openEnded: true,
  leavesOut: 'everything but the runtime regions',
  entry: (line) => {
    const match = LIST.exec(line)
    if (match === null) return undefined
    const [, number, type, start, virtual, pages, attribute] = match as unknown as string[]
    return {
      format: 'runtime_map_list',
      kind: 'runtime-copy',
      number: Number(number),
      entry: {
        type: Number(hex(type!)),
        start: hex(start!),
        virtualStart: hex(virtual!),
        pages: hex(pages!),
        attribute: hex(attribute!),
      },
    }
  },
  note: (line) =>
    /^#?\s*idx\s+type\s+phys_addr/i.test(line) ? { begins: true, kind: 'runtime-copy' } : undefined,
  torn: (line) => /^\d+ 0x[0-9a-f]+ 0x[0-9a-f]+(?: 0x[0-9a-f]*)*$/i.test(line),
}
