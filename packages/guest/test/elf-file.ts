/** A loadable segment of an ELF file. */
interface ElfSegment {
  readonly virtual: bigint
  readonly physical: bigint
  readonly bytes: Uint8Array
  /** Bytes in memory. Default: as in the file. */
  readonly memorySize?: number
}

export interface ElfFile {
  readonly bits: 32 | 64
  readonly entry: bigint
  readonly segments: readonly ElfSegment[]
  /** e_machine. Default: 80386 for 32 bits, x86-64 for 64. */
  readonly machine?: number
}

/** An ELF executable with nothing but its program headers and what they load (System V ABI, chapters 4 and 5). */
export function elfFile({ bits, entry, segments, machine }: ElfFile): Uint8Array {
  const isWide = bits === 64
  const [headerBytes, programBytes] = isWide ? [64, 56] : [52, 32]
  const start = headerBytes + segments.length * programBytes
  const bytes = new Uint8Array(segments.reduce((sum, segment) => sum + segment.bytes.length, start))
  const view = new DataView(bytes.buffer)
  const word = (at: number, value: bigint | number): void => {
    if (isWide) view.setBigUint64(at, BigInt(value), true)
    else view.setUint32(at, Number(BigInt.asUintN(32, BigInt(value))), true)
  }
  bytes.set([0x7f, 0x45, 0x4c, 0x46, isWide ? 2 : 1, 1, 1])
  view.setUint16(16, 2, true)
  view.setUint16(18, machine ?? (isWide ? 62 : 3), true)
  view.setUint32(20, 1, true)
  word(24, entry)
  word(isWide ? 32 : 28, headerBytes)
  const sizes = isWide ? 52 : 40
  view.setUint16(sizes, headerBytes, true)
  view.setUint16(sizes + 2, programBytes, true)
  view.setUint16(sizes + 4, segments.length, true)
  let offset = start
  for (const [index, { virtual, physical, bytes: content, memorySize }] of segments.entries()) {
    const at = headerBytes + index * programBytes
    const fields = isWide
      ? { offset: 8, virtual: 16, physical: 24, file: 32, memory: 40 }
      : { offset: 4, virtual: 8, physical: 12, file: 16, memory: 20 }
    view.setUint32(at, 1, true)
    word(at + fields.offset, offset)
    word(at + fields.virtual, virtual)
    word(at + fields.physical, physical)
    word(at + fields.file, content.length)
    word(at + fields.memory, memorySize ?? content.length)
    bytes.set(content, offset)
    offset += content.length
  }
  return bytes
}

/** A Multiboot header with these flags, and the five addresses behind it where there are any. */
export function multibootHeader(flags: number, addresses: readonly number[] = []): Uint8Array {
  const words = [0x1bad_b002, flags, -(0x1bad_b002 + flags), ...addresses]
  const bytes = new Uint8Array(words.length * 4)
  const view = new DataView(bytes.buffer)
  for (const [index, word] of words.entries()) view.setUint32(index * 4, word >>> 0, true)
  return bytes
}
