import type { SourceLine } from '../source-text.ts'
import { mergeE820 } from '@trapdoor/uefi'
import { e820TypeNamed, type ObservedE820Entry } from './e820.ts'

/** Physical bytes; `end` is exclusive. */
export interface ObservedRange {
  readonly start: number
  readonly end: number
}

/** What /proc/iomem tells of memory. */
export interface ObservedIomem {
  /** The kernel's image, from "Kernel code" to "Kernel bss"; undefined where it does not tell. */
  readonly image: ObservedRange | undefined
  /** Of it "Kernel code" and "Kernel rodata", each where it tells. */
  readonly text: ObservedRange | undefined
  readonly rodata: ObservedRange | undefined
  /** The e820 map as the kernel corrected it: the resources that have an e820 type's name, at whatever depth. */
  readonly e820: readonly ObservedE820Entry[]
  /** What `crashkernel=` has reserved. */
  readonly crashKernel: readonly ObservedRange[]
}

/** Reads `iomem.txt`, a copy of /proc/iomem. Lines of another form are passed over. */
export function readIomem(lines: readonly SourceLine[]): ObservedIomem {
  const resources = lines.flatMap(({ text }) => {
    const match = /^\s*([\da-f]+)-([\da-f]+) : (.*)$/.exec(text)
    return match === null
      ? []
      : [{ start: Number(`0x${match[1]}`), end: Number(`0x${match[2]}`) + 1, name: match[3]! }]
  })
  const named = (pattern: RegExp): ObservedRange[] =>
    resources.filter(({ name }) => pattern.test(name)).map(({ start, end }) => ({ start, end }))
  const image = named(/^Kernel (?:code|rodata|data|bss)$/)
  return {
    image:
      image.length === 0
        ? undefined
        : {
            start: Math.min(...image.map(({ start }) => start)),
            end: Math.max(...image.map(({ end }) => end)),
          },
    text: named(/^Kernel code$/)[0],
    rodata: named(/^Kernel rodata$/)[0],
    e820: mergeE820(
      resources.flatMap(({ start, end, name }) => {
        const type = e820TypeNamed(name)
        return type === undefined ? [] : [{ start, end, type }]
      }),
    ),
    crashKernel: named(/^Crash kernel$/),
  }
}
