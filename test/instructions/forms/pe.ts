import { PAGE_SIZE, type PhysicalMemory } from '@trapdoor/core'

import type { CodeImage, CodeRange } from './code-image.ts'

const MZ = 0x5a4d
const PE = 0x0000_4550
const MACHINE_I386 = 0x14c
const MACHINE_X64 = 0x8664
const PE32_PLUS = 0x20b
const SECTION_CODE = 0x20
const BASE_RELOCATION = 5
const RELOCATION_KINDS: Readonly<Record<number, 4 | 8>> = { 3: 4, 10: 8 }

/**
 * The images that were loaded into memory at the starts of pages (PE/COFF specification, sections 3 to 6). Where relocations tell of pointers, those into code are
 * candidates, whatever address the pointers were converted to: they are looked for as offsets from where the entry point's image lies.
 */
export function peImages(memory: PhysicalMemory, frames: Iterable<number>): CodeImage[] {
  const images: CodeImage[] = []
  for (const frame of frames) {
    const image = peImageAt(memory, frame * PAGE_SIZE)
    if (image !== undefined) images.push(image)
  }
  return images
}

function peImageAt(memory: PhysicalMemory, base: number): CodeImage | undefined {
  if (memory.read16(base) !== MZ) return undefined
  const header = base + memory.read32(base + 0x3c)
  if (header > base + PAGE_SIZE || memory.read32(header) !== PE) return undefined
  const machine = memory.read16(header + 4)
  if (machine !== MACHINE_X64 && machine !== MACHINE_I386) return undefined
  const bits = machine === MACHINE_X64 ? 64 : 32
  const optional = header + 24
  const directories = optional + (memory.read16(optional) === PE32_PLUS ? 112 : 96)
  const ranges = readCodeSections(memory, base, header)
  const isCode = (address: number): boolean =>
    ranges.some((each) => address >= each.address && address < each.address + each.bytes.length)
  const relocations = readRelocations(memory, base, directories + BASE_RELOCATION * 8)
  return {
    name: `image at 0x${base.toString(16)}`,
    ranges,
    roots: [{ address: base + memory.read32(optional + 16), bits }],
    candidates: bits === 64 ? relocations.filter(isCode) : [],
  }
}

function readCodeSections(memory: PhysicalMemory, base: number, header: number): CodeRange[] {
  const first = header + 24 + memory.read16(header + 20)
  return Array.from({ length: memory.read16(header + 6) }, (_, index) => first + index * 40)
    .filter((section) => (memory.read32(section + 36) & SECTION_CODE) !== 0)
    .map((section) => {
      const address = base + memory.read32(section + 12)
      return { address, bytes: memory.read(address, memory.read32(section + 8)) }
    })
}

/** The values of all pointers that have a relocation. */
function readRelocations(memory: PhysicalMemory, base: number, directory: number): number[] {
  const start = memory.read32(directory)
  const end = start + memory.read32(directory + 4)
  const values: number[] = []
  for (let block = start; block + 8 <= end;) {
    const page = memory.read32(base + block)
    const bytes = memory.read32(base + block + 4)
    if (bytes < 8) break
    for (let at = block + 8; at < block + bytes; at += 2) {
      const entry = memory.read16(base + at)
      const size = RELOCATION_KINDS[entry >> 12]
      const address = base + page + (entry & 0xfff)
      if (size === 8) values.push(Number(memory.read64(address)))
      else if (size === 4) values.push(memory.read32(address))
    }
    block += bytes
  }
  return values
}
