import fc from 'fast-check'
import {
  BITS_32,
  BITS_32_PSE,
  FIVE_LEVEL,
  FOUR_LEVEL,
  inspectAddress,
  type Inspection,
  PAE,
  PAGE_SIZE,
  type PageTableBuilder,
  type PagingMode,
  phys,
  type TableError,
  type TableResult,
  type TranslationContext,
  virt,
  type VirtualAddress,
} from '../src/index.ts'

/** Modes with a window of their address space that scripts work in: the last 4 MiB before a GiB boundary and the first 4 after it. */
export const WINDOWS: readonly { readonly mode: PagingMode; readonly start: bigint }[] = [
  { mode: FOUR_LEVEL, start: 0xffff_8800_3fc0_0000n },
  { mode: FIVE_LEVEL, start: 0xff12_3456_3fc0_0000n },
  { mode: PAE, start: 0x3fc0_0000n },
  { mode: BITS_32, start: 0x3fc0_0000n },
  { mode: BITS_32_PSE, start: 0x3fc0_0000n },
]
export const WINDOW_PAGES = 2048

export type Window = (typeof WINDOWS)[number]

/** The size of a mode's next larger page than 4 KiB; 4096 where it has none. */
export function largePage(mode: PagingMode): number {
  if (mode === BITS_32) return PAGE_SIZE
  return mode === BITS_32_PSE ? 0x40_0000 : 0x20_0000
}

export function addressIn(window: Window, page: number): VirtualAddress {
  return virt(window.start + BigInt(page) * 4096n, window.mode === FIVE_LEVEL ? 57 : 48)
}

const flags = fc.record({
  writable: fc.boolean(),
  user: fc.boolean(),
  executable: fc.boolean(),
  global: fc.boolean(),
  writeThrough: fc.boolean(),
  cacheDisable: fc.boolean(),
})

/** One thing to do to page tables, in pages of a window. */
export const step = fc.record({
  kind: fc.constantFrom('map', 'map', 'unmap', 'protect', 'split', 'merge'),
  // At the start of a large page often enough for one to fit.
  start: fc.oneof(fc.nat(WINDOW_PAGES - 1), fc.constantFrom(0, 512, 1024, 1536)),
  pages: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(512, 513, 1024, 1280)),
  frame: fc.oneof(
    fc.nat(2 ** 18),
    fc.nat(200).map((value) => value * 1024),
  ),
  isLarge: fc.boolean(),
  flags,
})

export type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never

export const script = fc.array(step, { maxLength: 8 })

/** Does what a step says. */
export function perform(
  builder: PageTableBuilder,
  window: Window,
  { kind, start, pages, frame, isLarge, flags: options }: Step,
): TableResult<TableError> {
  const large = largePage(window.mode)
  const address = addressIn(window, start)
  const bytes = Math.min(pages, WINDOW_PAGES - start) * PAGE_SIZE
  if (kind === 'unmap') return builder.tryUnmapRange(address, bytes)
  if (kind === 'protect') return builder.tryProtectRange(address, bytes, options)
  if (kind === 'split') return builder.trySplitPage(address)
  if (kind === 'merge') {
    const first = start - (start % (large / PAGE_SIZE))
    return builder.tryMergePages(addressIn(window, first), large)
  }
  return builder.tryMapRange(address, phys(frame * PAGE_SIZE), bytes, {
    ...options,
    largestPage: isLarge ? large : PAGE_SIZE,
    replace: true,
  })
}

/** What a page translates to, whatever the size of the page. */
export function translation(context: TranslationContext, address: bigint): unknown {
  const inspection = inspectAddress(context, address)
  if (inspection.status !== 'mapped') return inspection.status
  const { steps: _, pageSize: __, ...rest } = inspection
  return rest
}

/** What {@link inspectAddress} says of each page of a window. */
export function inspectWindow(context: TranslationContext, window: Window): Inspection[] {
  return Array.from({ length: WINDOW_PAGES }, (_, page) =>
    inspectAddress(context, addressIn(window, page)),
  )
}

/**
 * All entries under a root as text, but the frames of tables: two trees with equal texts have equal structure and equal leaves. Reads memory as the SDM's
 * figures of entries say.
 */
export function dump({
  memory,
  mode,
  root,
}: Pick<TranslationContext, 'memory' | 'mode' | 'root'>): string[] {
  const lines: string[] = []
  const visit = (table: number, depth: number, path: string): void => {
    const { indexBits, pageSize } = mode.levels[depth]!
    const large = pageSize === 'leaf' || pageSize === 'leaf-with-1g'
    for (let index = 0; index < 2 ** indexBits; index++) {
      const at = table + index * mode.entryBytes
      const entry = mode.entryBytes === 8 ? memory.read64(at) : BigInt(memory.read32(at))
      if (entry === 0n) continue
      const isLeaf = pageSize === 'pte' || (large && (entry & 0x80n) !== 0n)
      const here = `${path}/${index}`
      if (isLeaf || (entry & 1n) === 0n) lines.push(`${here} ${entry.toString(16)}`)
      else {
        const address = entry & 0xf_ffff_ffff_f000n
        lines.push(`${here} table ${(entry ^ address).toString(16)}`)
        visit(Number(address), depth + 1, here)
      }
    }
  }
  visit(root, 0, '')
  return lines
}
