import { IntakeError } from '../error.ts'
import type { SourceLine } from '../source-text.ts'

/** What a kernel's log says of how it was started and how it ended, as far as EFI is concerned. */
export interface KernelLog {
  /** Such as "6.1.0-56-cloud-amd64". */
  readonly version: string
  readonly commandLine: string
  /** Where the loader put the initrd, physical bytes, `end` exclusive. */
  readonly initrd: { readonly start: number; readonly end: number } | undefined
  /** Physical address of the memory attributes table, where the firmware has one. */
  readonly memoryAttributesTable: number | undefined
  readonly ending: KernelEnding
}

/** How a kernel ended. */
export interface KernelEnding {
  /** The panic's words; undefined where there was none. */
  readonly panic: string | undefined
  /** Whether it registered the EFI variable services. */
  readonly runtimeServices: boolean
  /** The status that SetVirtualAddressMap failed with. */
  readonly svamStatus: bigint | undefined
  /** Physical addresses at which firmware faulted while the kernel went on, each once. */
  readonly survivedFaults: readonly number[]
  /** Services after which the interrupt flag was wrong, in kernel spelling, each once. */
  readonly flagsCorruptedBy: readonly string[]
}

const BANNER = /^Linux version (\S+)/

/** The kernels whose logs follow one another in a text. Throws INTAKE_INCOMPLETE where it has not even one kernel's banner. */
export function readKernelLogs(file: string, lines: readonly SourceLine[]): KernelLog[] {
  const starts = lines.flatMap(({ text }, index) => (BANNER.test(text) ? [index] : []))
  if (starts.length === 0) {
    throw new IntakeError('INTAKE_INCOMPLETE', {
      file,
      line: 1,
      expected: 'a kernel’s log from its first line, "Linux version …"',
      found: `${lines.length} lines without it`,
    })
  }
  return starts.map((start, index) => readKernelLog(lines.slice(start, starts[index + 1])))
}

function readKernelLog(lines: readonly SourceLine[]): KernelLog {
  const text = lines.map((line) => line.text)
  const first = (pattern: RegExp): string | undefined => {
    for (const line of text) {
      const match = pattern.exec(line)
      if (match !== null) return match[1]
    }
    return undefined
  }
  const all = (pattern: RegExp): string[] => [
    ...new Set(text.flatMap((line) => pattern.exec(line)?.[1] ?? [])),
  ]
  const initrd = text.map((line) => /RAMDISK: \[mem (0x[\da-f]+)-(0x[\da-f]+)\]/.exec(line))
  const [, start, last] = initrd.find((match) => match !== null) ?? []
  const attributes = first(/\bMEMATTR=(0x[\da-f]+)/)
  const status = first(/Unable to switch EFI into virtual mode \(status=([\da-f]+)\)/)
  return {
    version: first(BANNER)!,
    commandLine: first(/^Command line: (.*)$/)?.trim() ?? '',
    initrd:
      start === undefined || last === undefined
        ? undefined
        : { start: Number(start), end: Number(last) + 1 },
    memoryAttributesTable: attributes === undefined ? undefined : Number(attributes),
    ending: {
      panic: first(/Kernel panic - not syncing: (.*)$/),
      runtimeServices: first(/(Registered efivars operations)/) !== undefined,
      svamStatus: status === undefined ? undefined : BigInt(`0x${status}`),
      survivedFaults: all(/Page fault caused by firmware at PA: (0x[\da-f]+)/).map(Number),
      flagsCorruptedBy: all(/IRQ flags corrupted \([^)]*\) by EFI (\w+)/),
    },
  }
}
