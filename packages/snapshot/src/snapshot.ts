import type { Board, DescriptorTable, SegmentRegister } from '@trapdoor/core'
import type { MemoryDescriptor } from '@trapdoor/uefi'

/** Bytes of physical memory from a page on; whole pages of 4 KiB. */
export interface PageRun {
  readonly address: number
  readonly bytes: Uint8Array
}

/** The names of the general registers in the order of their numbers. */
export const GENERAL_REGISTERS = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
] as const
/** One of {@link GENERAL_REGISTERS}. */
export type GeneralRegister = (typeof GENERAL_REGISTERS)[number]

/** The names of the segment registers, TR and LDTR among them. */
export const SEGMENT_REGISTERS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldt', 'tr'] as const
/** One of {@link SEGMENT_REGISTERS}. */
export type SegmentName = (typeof SEGMENT_REGISTERS)[number]

/** A processor's registers. */
export interface CpuState {
  readonly general: Readonly<Record<GeneralRegister, bigint>>
  readonly rip: bigint
  readonly rflags: bigint
  readonly cr0: number
  readonly cr2: bigint
  readonly cr3: number
  readonly cr4: number
  readonly efer: number
  readonly gdt: DescriptorTable
  readonly idt: DescriptorTable
  /** One that the snapshot says nothing of is left out. */
  readonly segments: Readonly<Partial<Record<SegmentName, SegmentRegister>>>
}

/** A flash that firmware keeps its variables in. */
export interface FlashImage {
  /** Physical address of its first byte. */
  readonly address: number
  readonly contents: Uint8Array
}

/** An image of the firmware in runtime memory. */
export interface FirmwareImage {
  /** As edk2 calls it, such as "VariableRuntimeDxe", else its GUID, else where it is. */
  readonly name: string
  /** Physical address of its first byte. */
  readonly base: number
  readonly bytes: number
  /** Name of the file in the firmware volume; undefined where it is not known. */
  readonly guid: string | undefined
}

/**
 * A real firmware at the moment when it has let the operating system go: ExitBootServices has returned, SetVirtualAddressMap has not been called. Addresses are physical, in bytes, where
 * nothing else is said.
 */
export interface FirmwareSnapshot {
  /** Short, such as "pc-2M-512M". */
  readonly name: string
  /** How it was made: the emulator's command. */
  readonly origin: string
  readonly board: Board
  /** What the tables and the code are: 64-bit or 32-bit UEFI. */
  readonly architecture: 'x64' | 'ia32'
  /** Whether the processor had 5-level paging. */
  readonly la57: boolean
  /** Whether parts of the firmware run in system-management mode, which a snapshot does not hold. */
  readonly smm: boolean
  /** The map that GetMemoryMap reported last. */
  readonly memoryMap: readonly MemoryDescriptor[]
  /** Address of EFI_SYSTEM_TABLE. */
  readonly systemTable: number
  /** What is in memory: runtime and ACPI memory, tables, and the firmware's own page tables. All else is unknown, and zero. */
  readonly pages: readonly PageRun[]
  /** The boot processor as it was when ExitBootServices was about to return. */
  readonly cpu: CpuState
  /** The registers of the clock; undefined where they were not taken down. */
  readonly cmos: Uint8Array | undefined
  /** The flash with the variables; undefined where there is none that the operating system's calls can reach. */
  readonly flash: FlashImage | undefined
  readonly images: readonly FirmwareImage[]
}
