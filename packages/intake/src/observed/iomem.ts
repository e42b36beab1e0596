import type { SourceLine } from '../source-text.ts'

/** The kernel's image in /proc/iomem, from "Kernel code" to "Kernel bss", in bytes; `end` is exclusive. */
export function readKernelImage(
  lines: readonly SourceLine[],
): { readonly start: number; readonly end: number } | undefined {
  const ranges = lines.flatMap(({ text }) => {
    const match = /^\s*([\da-f]+)-([\da-f]+) : Kernel (?:code|rodata|data|bss)$/.exec(text)
    return match === null
      ? []
      : [{ start: Number(`0x${match[1]}`), end: Number(`0x${match[2]}`) + 1 }]
  })
  if (ranges.length === 0) return undefined
  return {
    start: Math.min(...ranges.map(({ start }) => start)),
    end: Math.max(...ranges.map(({ end }) => end)),
  }
}
