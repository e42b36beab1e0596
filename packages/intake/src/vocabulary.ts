import { MemoryAttribute } from '@trapdoor/uefi'

/** What the forms call the memory types, by type number. Each list has the names of one program, or of one of its versions. */
const NAMES: readonly (readonly string[])[] = [
  // Linux, 19 characters.
  [
    'Reserved',
    'Loader Code',
    'Loader Data',
    'Boot Code',
    'Boot Data',
    'Runtime Code',
    'Runtime Data',
    'Conventional Memory',
    'Unusable Memory',
    'ACPI Reclaim Memory',
    'ACPI Memory NVS',
    'Memory Mapped I/O',
    'MMIO Port Space',
    'PAL Code',
    'Persistent Memory',
    'Unaccepted Memory',
  ],
  // Linux from 5.19, 12 characters.
  [
    'Reserved',
    'Loader Code',
    'Loader Data',
    'Boot Code',
    'Boot Data',
    'Runtime Code',
    'Runtime Data',
    'Conventional',
    'Unusable',
    'ACPI Reclaim',
    'ACPI Mem NVS',
    'MMIO',
    'MMIO Port',
    'PAL Code',
    'Persistent',
    'Unaccepted',
  ],
  // UEFI shell.
  [
    'Reserved',
    'LoaderCode',
    'LoaderData',
    'BS_Code',
    'BS_Data',
    'RT_Code',
    'RT_Data',
    'Available',
    'Unusable',
    'ACPI_Recl',
    'ACPI_NVS',
    'MMIO',
    'MMIO_Port',
    'PalCode',
    'Persistent',
    'Unaccepted',
  ],
  // GRUB.
  [
    'reserved',
    'ldr-code',
    'ldr-data',
    'BS-code',
    'BS-data',
    'RT-code',
    'RT-data',
    'conv-mem',
    'unusable',
    'ACPI-rec',
    'ACPI-nvs',
    'MMIO',
    'IO-ports',
    'PAL-code',
    'persist',
  ],
  // U-Boot, old.
  [
    'RESERVED',
    'LOADER CODE',
    'LOADER DATA',
    'BOOT CODE',
    'BOOT DATA',
    'RUNTIME CODE',
    'RUNTIME DATA',
    'CONVENTIONAL',
    'UNUSABLE MEMORY',
    'ACPI RECLAIM MEM',
    'ACPI NVS',
    'IO',
    'IO PORT',
    'PAL',
    'PERSISTENT',
  ],
  // U-Boot, new, and FreeBSD, which has "Reserved": the specification's names.
  [
    'ReservedMemory',
    'LoaderCode',
    'LoaderData',
    'BootServicesCode',
    'BootServicesData',
    'RuntimeServicesCode',
    'RuntimeServicesData',
    'ConventionalMemory',
    'UnusableMemory',
    'ACPIReclaimMemory',
    'ACPIMemoryNVS',
    'MemoryMappedIO',
    'MemoryMappedIOPortSpace',
    'PalCode',
    'PersistentMemory',
    'UnacceptedMemory',
  ],
]

const TYPES: ReadonlyMap<string, number> = new Map(
  NAMES.flatMap((names) => names.map((name, type) => [name.toLowerCase(), type] as const)),
)

/** The memory type that a program calls `name`; undefined for a name that none of them uses. */
export function memoryTypeOf(name: string): number | undefined {
  const known = TYPES.get(name.trim().toLowerCase())
  if (known !== undefined) return known
  // Linux prints unknown types as "type=NUMBER", GRUB as "Unknown HEX" or "Unk HEX", the UEFI shell as eight hex digits.
  const number = /^(?:type=(\d+)|unk(?:nown)? ([0-9a-f]+)|([0-9a-f]{8}))$/i.exec(name.trim())
  if (number === null) return undefined
  return number[1] === undefined ? parseInt(number[2] ?? number[3]!, 16) : Number(number[1])
}

const ATTRIBUTES: ReadonlyMap<string, bigint> = new Map<string, bigint>([
  ['RUN', MemoryAttribute.RUNTIME],
  ['RT', MemoryAttribute.RUNTIME],
  ['MR', MemoryAttribute.MORE_RELIABLE],
  ['REL', MemoryAttribute.MORE_RELIABLE],
  ['CC', MemoryAttribute.CPU_CRYPTO],
  ['CRYPT', MemoryAttribute.CPU_CRYPTO],
  ['HP', MemoryAttribute.HOT_PLUGGABLE],
  ['HOTPL', MemoryAttribute.HOT_PLUGGABLE],
  ...Object.entries(MemoryAttribute).filter(([name]) => name !== 'ISA_MASK'),
])

/** The attribute bits of words such as "RT UC|WB"; blanks between the bars are clear bits. Undefined on a word that is no attribute. */
export function attributesOf(text: string): bigint | undefined {
  let attribute = 0n
  for (const word of text.split(/[|\s]+/).filter((each) => each !== '')) {
    const bits = ATTRIBUTES.get(word) ?? assignedBits(word)
    if (bits === undefined) return undefined
    attribute |= bits
  }
  return attribute
}

/** Lowest bit of MemoryAttribute.ISA_MASK. */
const ISA_SHIFT = 44n

/** The bits of "attr=0x…" (Linux), of a bare "0x…" and of "ISA=0x…", which is shifted down (both U-Boot). */
function assignedBits(word: string): bigint | undefined {
  const assigned = /^(attr=|ISA=)?0x([0-9a-f]+)$/i.exec(word)
  if (assigned === null) return undefined
  const value = BigInt(`0x${assigned[2]}`)
  return assigned[1] === 'ISA=' ? (value << ISA_SHIFT) | MemoryAttribute.ISA_VALID : value
}
