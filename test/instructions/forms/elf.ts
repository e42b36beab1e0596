import type { CodeImage, CodeRange, CodeRoot } from './code-image.ts'

const SHT_SYMTAB = 2
const SHF_EXECINSTR = 4
const SHT_NOBITS = 8
const STT_NOTYPE = 0
const STT_FUNC = 2
const MULTIBOOT_MAGIC = 0x1bad_b002

/** Whether a file is an executable of x86-64. */
export function isElf(file: Uint8Array): boolean {
  return file.length > 64 && viewOf(file).getUint32(0) === 0x7f45_4c46 && file[4] === 2
}

/**
 * The code of an ELF file of 64 bits (System V ABI, chapter 4): its executable sections, and the symbols in them as roots. The entry point of a Multiboot image is
 * 32-bit code, so that code which it reaches is; everything else is 64-bit code.
 */
export function elfImage(name: string, file: Uint8Array): CodeImage {
  const view = viewOf(file)
  const sections = readSections(view)
  const executable = sections.filter(
    ({ flags, type }) => (flags & SHF_EXECINSTR) !== 0 && type !== SHT_NOBITS,
  )
  const ranges = executable.map(({ address, offset, size }): CodeRange => ({
    address,
    bytes: file.subarray(offset, offset + size),
  }))
  const entry = Number(view.getBigUint64(24, true))
  const table = sections.find(({ type }) => type === SHT_SYMTAB)
  const symbols = table === undefined ? [] : readSymbols(view, table)
  const isCode = (address: number): boolean =>
    executable.some((each) => address >= each.address && address < each.address + each.size)
  const roots = symbols
    .filter(({ type, address }) => (type === STT_FUNC || type === STT_NOTYPE) && isCode(address))
    .map(({ address, size }): CodeRoot => ({ address, bits: 64, size }))
  const bits = ranges.some(({ bytes }) => beginsWithMultiboot(bytes)) ? 32 : 64
  return { name, ranges, roots: [{ address: entry, bits }, ...roots], candidates: [] }
}

/** Whether the first 8 KiB of a section have the magic number of a Multiboot header, aligned to 4 bytes (Multiboot Specification 0.6.96, 3.1). */
function beginsWithMultiboot(bytes: Uint8Array): boolean {
  const view = viewOf(bytes)
  for (let at = 0; at + 4 <= Math.min(view.byteLength, 8192); at += 4) {
    if (view.getUint32(at, true) === MULTIBOOT_MAGIC) return true
  }
  return false
}

interface Section {
  readonly type: number
  readonly flags: number
  readonly address: number
  readonly offset: number
  readonly size: number
}

function readSections(view: DataView): Section[] {
  const start = Number(view.getBigUint64(40, true))
  const [bytes, count] = [view.getUint16(58, true), view.getUint16(60, true)]
  return Array.from({ length: count }, (_, index) => {
    const at = start + index * bytes
    return {
      type: view.getUint32(at + 4, true),
      flags: Number(view.getBigUint64(at + 8, true)),
      address: Number(view.getBigUint64(at + 16, true)),
      offset: Number(view.getBigUint64(at + 24, true)),
      size: Number(view.getBigUint64(at + 32, true)),
    }
  })
}

function readSymbols(
  view: DataView,
  { offset, size }: Section,
): { type: number; address: number; size: number }[] {
  return Array.from({ length: size / 24 }, (_, index) => {
    const at = offset + index * 24
    return {
      type: view.getUint8(at + 4) & 0xf,
      address: Number(view.getBigUint64(at + 8, true)),
      size: Number(view.getBigUint64(at + 16, true)),
    }
  })
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength)
}
