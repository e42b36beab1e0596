import { mergeE820 } from '@trapdoor/uefi'
import { IntakeError } from '../error.ts'
import type { SourceLine } from '../source-text.ts'

/** What the kernel calls an e820 type in /proc/iomem and /sys/firmware/memmap (e820_type_to_string(), arch/x86/kernel/e820.c). */
export type E820TypeName =
  | 'System RAM'
  | 'Reserved'
  | 'ACPI Tables'
  | 'ACPI Non-volatile Storage'
  | 'Unusable memory'
  | 'Persistent Memory'
  | 'Persistent Memory (legacy)'
  | 'Soft Reserved'

/** Bytes of one type; `end` is exclusive. */
export interface ObservedE820Entry {
  readonly start: number
  readonly end: number
  readonly type: E820TypeName
}

/** Types as the files spell them, and as a kernel's log does ("BIOS-e820: [mem …] usable"). */
const NAMES: Readonly<Record<string, E820TypeName>> = {
  'system ram': 'System RAM',
  reserved: 'Reserved',
  'acpi tables': 'ACPI Tables',
  'acpi non-volatile storage': 'ACPI Non-volatile Storage',
  'unusable memory': 'Unusable memory',
  'persistent memory': 'Persistent Memory',
  'persistent memory (legacy)': 'Persistent Memory (legacy)',
  'soft reserved': 'Soft Reserved',
  'soft-reserved': 'Soft Reserved',
  usable: 'System RAM',
  'acpi data': 'ACPI Tables',
  'acpi nvs': 'ACPI Non-volatile Storage',
  unusable: 'Unusable memory',
  'persistent (type 7)': 'Persistent Memory',
  'persistent (type 12)': 'Persistent Memory (legacy)',
}

/** The type that goes by a name; undefined for what is no e820 type, such as "PCI Bus 0000:00". */
export function e820TypeNamed(name: string): E820TypeName | undefined {
  return NAMES[name.toLowerCase()]
}

/** `firmware-memmap.txt`, the table of /sys/firmware/memmap: what the loader told this kernel. Throws INTAKE_BAD_ENTRY on a line that is none of it. */
export function readFirmwareMemmap(
  file: string,
  lines: readonly SourceLine[],
): ObservedE820Entry[] {
  const entries = lines
    .filter(({ text }) => text.trim() !== '' && !text.startsWith('#'))
    .map(({ text, number }) => {
      const [, start, last, name = ''] =
        /^\s*\d+\s+(0x[\da-f]+)\s+(0x[\da-f]+)\s+(.+?)\s*$/i.exec(text) ?? []
      const type = e820TypeNamed(name)
      if (start === undefined || last === undefined || type === undefined) {
        throw new IntakeError('INTAKE_BAD_ENTRY', {
          file,
          line: number,
          expected: 'a range such as "0 0x0 0x9ffff System RAM"',
          found: text,
        })
      }
      return { start: Number(start), end: Number(last) + 1, type }
    })
  return mergeE820(entries)
}

/** What a kernel printed of the same table ("BIOS-e820:"); undefined where it did not. */
export function readBiosE820(texts: readonly string[]): ObservedE820Entry[] | undefined {
  const entries = texts.flatMap((text) => {
    const [, start, last, name = ''] =
      /BIOS-e820: \[mem (0x[\da-f]+)-(0x[\da-f]+)\] (.+)$/.exec(text) ?? []
    const type = e820TypeNamed(name.trim())
    return start === undefined || last === undefined || type === undefined
      ? []
      : [{ start: Number(start), end: Number(last) + 1, type }]
  })
  return entries.length === 0 ? undefined : mergeE820(entries)
}
