import type { MapFormat } from '../src/index.ts'

/** A descriptor that is going to be printed. */
export interface Printable {
  readonly type: number
  readonly start: bigint
  readonly pages: bigint
  readonly attribute: bigint
}

/** Prints maps as one program does, from the format strings of its source. */
export interface Printer {
  readonly format: MapFormat
  readonly head: readonly string[]
  readonly entry: (entry: Printable, index: number) => string
  readonly foot: (entries: readonly Printable[]) => readonly string[]
  /** Bits that the form can print. */
  readonly bits: bigint
}

const ALL_BITS = 2n ** 64n - 1n

function hex(value: bigint, width: number, capitals = false): string {
  const digits = value.toString(16).padStart(width, '0')
  return capitals ? digits.toUpperCase() : digits
}

const endOf = ({ start, pages }: Printable): bigint => start + pages * 4096n
const mebibytes = ({ pages }: Printable): bigint => pages >> 8n

// efi_md_typeattr_format(): the columns from left to right, RUN first.
const LINUX_COLUMNS: readonly (readonly [string, bigint])[] = [
  ['RUN', 63n],
  ['HP', 20n],
  ['CC', 19n],
  ['SP', 18n],
  ['MR', 16n],
  ['XP', 14n],
  ['NV', 15n],
  ['RP', 13n],
  ['WP', 12n],
  ['RO', 17n],
  ['UCE', 4n],
  ['WB', 3n],
  ['WT', 2n],
  ['WC', 1n],
  ['UC', 0n],
]
const LINUX_BITS = LINUX_COLUMNS.reduce((bits, [, bit]) => bits | (1n << bit), 0n)
const LONG_NAMES =
  'Reserved|Loader Code|Loader Data|Boot Code|Boot Data|Runtime Code|Runtime Data|Conventional Memory|Unusable Memory|ACPI Reclaim Memory|ACPI Memory NVS|Memory Mapped I/O|MMIO Port Space|PAL Code|Persistent Memory'.split(
    '|',
  )
const SHORT_NAMES =
  'Reserved|Loader Code|Loader Data|Boot Code|Boot Data|Runtime Code|Runtime Data|Conventional|Unusable|ACPI Reclaim|ACPI Mem NVS|MMIO|MMIO Port|PAL Code|Persistent|Unaccepted'.split(
    '|',
  )

function linuxTypeAttr({ type, attribute }: Printable, names: readonly string[]): string {
  const width = names === SHORT_NAMES ? 12 : 19
  const name = (names[type] ?? `type=${type}`).padEnd(width)
  if ((attribute & ~LINUX_BITS) !== 0n) return `[${name}|attr=0x${hex(attribute, 16)}]`
  const columns = LINUX_COLUMNS.map(([label, bit]) =>
    (attribute & (1n << bit)) === 0n ? ' '.repeat(label.length) : label,
  )
  return `[${name}|${columns.join('|')}]`
}

const STAMP = '[    0.000000] '
const AFTER_LINUX = [`${STAMP}SMBIOS 2.7 present.`]
const number = (index: number): string => String(index).padStart(2, '0')

const SHELL_NAMES =
  'Reserved LoaderCode LoaderData BS_Code BS_Data RT_Code RT_Data Available Unusable ACPI_Recl ACPI_NVS MMIO MMIO_Port PalCode Persistent Unaccepted'.split(
    ' ',
  )
const GRUB_NAMES =
  'reserved|ldr-code|ldr-data|BS-code |BS-data |RT-code |RT-data |conv-mem|unusable|ACPI-rec|ACPI-nvs|MMIO    |IO-ports|PAL-code|persist '.split(
    '|',
  )
const SPEC_NAMES =
  'ReservedMemory LoaderCode LoaderData BootServicesCode BootServicesData RuntimeServicesCode RuntimeServicesData ConventionalMemory UnusableMemory ACPIReclaimMemory ACPIMemoryNVS MemoryMappedIO MemoryMappedIOPortSpace PalCode PersistentMemory UnacceptedMemory'.split(
    ' ',
  )
const OLD_UBOOT_NAMES =
  'RESERVED|LOADER CODE|LOADER DATA|BOOT CODE|BOOT DATA|RUNTIME CODE|RUNTIME DATA|CONVENTIONAL|UNUSABLE MEMORY|ACPI RECLAIM MEM|ACPI NVS|IO|IO PORT|PAL'.split(
    '|',
  )

function words(attribute: bigint, names: readonly (readonly [string, bigint])[]): string[] {
  return names.filter(([, bit]) => (attribute & (1n << bit)) !== 0n).map(([word]) => word)
}

const LOW_WORDS = [
  ['UC', 0n],
  ['WC', 1n],
  ['WT', 2n],
  ['WB', 3n],
  ['UCE', 4n],
  ['WP', 12n],
  ['RP', 13n],
  ['XP', 14n],
] as const
const bitsOf = (names: readonly (readonly [string, bigint])[]): bigint =>
  names.reduce((bits, [, bit]) => bits | (1n << bit), 0n)

/** GRUB's size column: KiB unless it divides evenly. */
function grubSize({ pages }: Printable): string {
  let size = pages * 4n
  let unit = 'K'
  for (const next of ['M', 'G', 'T']) {
    if (size === 0n || size % 1024n !== 0n) break
    size /= 1024n
    unit = next
  }
  return `${String(size).padStart(6)}${unit}iB`
}

const GRUB_WORDS = [['RT', 63n], ...LOW_WORDS] as const
const UBOOT_WORDS = [
  ...LOW_WORDS,
  ['NV', 15n],
  ['REL', 16n],
  ['RO', 17n],
  ['SP', 18n],
  ['CRYPT', 19n],
  ['HOTPL', 20n],
  ['RT', 63n],
] as const
const FREEBSD_WORDS = [
  ...LOW_WORDS,
  ['NV', 15n],
  ['MORE_RELIABLE', 16n],
  ['RO', 17n],
  ['RUNTIME', 63n],
] as const

/** Every form that can hold a whole map. */
export const PRINTERS: readonly Printer[] = [
  {
    format: 'linux_type',
    head: [`${STAMP}efi: EFI v2.31 by American Megatrends`],
    entry: (entry, index) =>
      `${STAMP}efi: mem${number(index)}: type=${entry.type}, attr=0x${hex(entry.attribute, 0)}, range=[0x${hex(entry.start, 16)}-0x${hex(endOf(entry), 16)}) (${mebibytes(entry)}MB)`,
    foot: () => AFTER_LINUX,
    bits: ALL_BITS,
  },
  {
    format: 'linux_names_halfopen',
    head: [],
    entry: (entry, index) =>
      `${STAMP}efi: mem${number(index)}: ${linuxTypeAttr(entry, LONG_NAMES)} range=[0x${hex(entry.start, 16)}-0x${hex(endOf(entry), 16)}) (${mebibytes(entry)}MB)`,
    foot: () => AFTER_LINUX,
    bits: ALL_BITS,
  },
  {
    format: 'linux_names_incl',
    head: [],
    entry: (entry, index) =>
      `${STAMP}efi: mem${number(index)}: ${linuxTypeAttr(entry, SHORT_NAMES)} range=[0x${hex(entry.start, 16)}-0x${hex(endOf(entry) - 1n, 16)}] (${mebibytes(entry)}MB)`,
    foot: () => AFTER_LINUX,
    bits: ALL_BITS,
  },
  {
    format: 'linux_arm',
    head: [`${STAMP}efi: Processing EFI memory map:`],
    entry: (entry) =>
      `${STAMP}efi:   0x${hex(entry.start, 12)}-0x${hex(endOf(entry) - 1n, 12)} ${linuxTypeAttr(entry, LONG_NAMES)}`,
    foot: () => AFTER_LINUX,
    bits: ALL_BITS,
  },
  {
    format: 'shell',
    head: ['Type       Start            End              # Pages          Attributes'],
    entry: (entry) =>
      `${(SHELL_NAMES[entry.type] ?? hex(BigInt(entry.type), 8, true)).padEnd(10)} ${hex(entry.start, 16, true)}-${hex(endOf(entry) - 1n, 16, true)} ${hex(entry.pages, 16, true)} ${hex(entry.attribute, 16, true)}`,
    foot: (entries) => [
      ' ',
      ...SHELL_NAMES.map((name, type) => {
        const pages = entries
          .filter((entry) => entry.type === type)
          .reduce((sum, entry) => sum + entry.pages, 0n)
        return `  ${name.padEnd(10)}: ${pages.toLocaleString('en-US').padStart(14)} Pages (${(pages * 4096n).toLocaleString('en-US')} Bytes)`
      }),
      '              -------------- ',
      'Total Memory:          8,007 MB (8,396,992,512 Bytes)',
    ],
    bits: ALL_BITS,
  },
  {
    format: 'grub',
    head: [
      'grub> lsefimmap',
      'Type      Physical start  - end             #Pages        Size Attributes',
    ],
    entry: (entry) =>
      `${GRUB_NAMES[entry.type] ?? `Unknown ${hex(BigInt(entry.type), 2)}`}  ${hex(entry.start, 16)}-${hex(endOf(entry) - 1n, 16)} ${hex(entry.pages, 8)} ${grubSize(entry)}${words(
        entry.attribute,
        GRUB_WORDS,
      )
        .map((word) => ` ${word}`)
        .join('')}`,
    foot: () => ['grub>'],
    bits: bitsOf(GRUB_WORDS),
  },
  {
    format: 'xen',
    head: ['(XEN) EFI memory map:'],
    entry: (entry) =>
      `(XEN)  ${hex(entry.start, 13)}-${hex(endOf(entry) - 1n, 13)} type=${entry.type} attr=${hex(entry.attribute, 16)}`,
    foot: () => ['(XEN) Unknown cachability for MFNs 0xff900-0xfffff'],
    bits: ALL_BITS,
  },
  {
    format: 'uboot_efi_mem',
    head: [
      '=> efi mem',
      'Type                    Start            End              Attributes',
      '======================= ================ ================ ==========',
    ],
    entry: (entry) => {
      const isa =
        (entry.attribute >> 62n) & 1n
          ? ['ISA_VALID', `ISA=0x${hex((entry.attribute >> 44n) & 0xffffn, 0)}`]
          : []
      const attributes = [...words(entry.attribute, UBOOT_WORDS), ...isa]
      return `${SPEC_NAMES[entry.type]!.padEnd(23)} ${hex(entry.start, 16)}-${hex(endOf(entry), 16)} ${attributes.join('|')}`
    },
    foot: () => ['=> '],
    bits: bitsOf(UBOOT_WORDS),
  },
  {
    format: 'uboot_efidebug',
    head: [
      '=> efidebug memmap',
      'Type             Start            End              Attributes',
      '================ ================ ================ ==========',
    ],
    entry: (entry) =>
      `${OLD_UBOOT_NAMES[entry.type]!.padEnd(16)} ${hex(entry.start, 16)}-${hex(endOf(entry), 16)} ${words(entry.attribute, UBOOT_WORDS).join('|')}`,
    foot: () => ['=> '],
    bits: bitsOf(UBOOT_WORDS),
  },
  {
    format: 'esx_mmap',
    head: [],
    entry: (entry, index) =>
      `<7>MMap[${index}]: 0x${hex(entry.start, 0)} - 0x${hex(endOf(entry) - 1n, 0)} len=${entry.pages * 4096n}, type=${entry.type}, attr=0x${hex(entry.attribute, 0)}`,
    foot: () => ['<7>Relocating modules'],
    bits: ALL_BITS,
  },
  {
    format: 'freebsd_text',
    head: ['machdep.efi_map: ', '                   Type     Physical      Virtual   #Pages Attr'],
    entry: (entry) =>
      `${(SPEC_NAMES[entry.type] ?? '<INVALID>').replace('ReservedMemory', 'Reserved').padStart(23)} ${hex(entry.start, 12)} ${'0x0'.padStart(12)} ${hex(entry.pages, 8)} ${words(entry.attribute, FREEBSD_WORDS).join(' ')}`,
    foot: () => ['machdep.idle: acpi'],
    bits: bitsOf(FREEBSD_WORDS),
  },
]

/** The text of a map. */
export function print(printer: Printer, entries: readonly Printable[]): string {
  const lines = [...printer.head, ...entries.map(printer.entry), ...printer.foot(entries)]
  return `${lines.join('\n')}\n`
}
