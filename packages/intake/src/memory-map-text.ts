/** The forms in which machines print a memory map. */
export type MapFormat =
  | 'linux_type'
  | 'linux_names_halfopen'
  | 'linux_names_incl'
  | 'linux_remove_mmio'
  | 'linux_arm'
  | 'linux_memattr'
  | 'runtime_map_sysfs'
  | 'runtime_map_list'
  | 'shell'
  | 'grub'
  | 'xen'
  | 'uboot_efi_mem'
  | 'uboot_efidebug'
  | 'esx_mmap'
  | 'opencore_devirt'
  | 'freebsd_text'
  | 'freebsd_binary'

/** One descriptor as it was printed. */
export interface MapEntry {
  readonly type: number
  /** Physical address in bytes. */
  readonly start: bigint
  /** Pages of 4 KiB. */
  readonly pages: bigint
  /** Null where the form does not print attributes. */
  readonly attribute: bigint | null
  readonly virtualStart?: bigint
  /** Line of the file, from 1; 0 in a binary one. */
  readonly line: number
}

/** Something odd in a text, or in one of its maps. */
export interface IntakeWarning {
  readonly code:
    | 'INTAKE_CUT'
    | 'INTAKE_END_UNSEEN'
    | 'INTAKE_GAP'
    | 'INTAKE_CONFLICT'
    | 'INTAKE_TORN_LINE'
    | 'INTAKE_OVERSIZED'
    | 'INTAKE_RANGE'
    | 'INTAKE_ZERO_LENGTH'
    | 'INTAKE_WRAPS'
    | 'INTAKE_OVERLAP'
    | 'INTAKE_MISALIGNED'
    | 'INTAKE_CHECKSUM'
    | 'INTAKE_MARKED'
  readonly message: string
  readonly file: string
  readonly line: number
  readonly hint?: string
}

/** What a map is: the firmware's whole map, a copy of the runtime regions with virtual addresses, or the memory attributes table. */
export type MapKind = 'firmware' | 'runtime-copy' | 'memory-attributes'

/** A memory map that was found in a text. */
export interface MemoryMapText {
  readonly format: MapFormat
  readonly kind: MapKind
  /** Whether the whole of the firmware's map is here. */
  readonly complete: boolean
  /** What is not, where it is not. */
  readonly missing?: string
  /** In the order in which they were printed. */
  readonly entries: readonly MapEntry[]
  readonly warnings: readonly IntakeWarning[]
  /** The file that it was read from. */
  readonly file: string
  /** Line of the first entry. */
  readonly line: number
}
