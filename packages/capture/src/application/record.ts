import { type Architecture, decodeStatus } from '@trapdoor/uefi'

/** MSRs that the application reads once firmware has let it go: what the memory types and the paging mode rest on (SDM Vol. 4, table 2-2). */
export const RECORDED_MSRS = {
  IA32_APIC_BASE: 0x1b,
  IA32_MTRRCAP: 0xfe,
  IA32_MTRR_PHYSBASE0: 0x200,
  IA32_MTRR_PHYSMASK0: 0x201,
  IA32_MTRR_PHYSBASE1: 0x202,
  IA32_MTRR_PHYSMASK1: 0x203,
  IA32_MTRR_PHYSBASE2: 0x204,
  IA32_MTRR_PHYSMASK2: 0x205,
  IA32_MTRR_PHYSBASE3: 0x206,
  IA32_MTRR_PHYSMASK3: 0x207,
  IA32_MTRR_PHYSBASE4: 0x208,
  IA32_MTRR_PHYSMASK4: 0x209,
  IA32_MTRR_PHYSBASE5: 0x20a,
  IA32_MTRR_PHYSMASK5: 0x20b,
  IA32_MTRR_PHYSBASE6: 0x20c,
  IA32_MTRR_PHYSMASK6: 0x20d,
  IA32_MTRR_PHYSBASE7: 0x20e,
  IA32_MTRR_PHYSMASK7: 0x20f,
  IA32_MTRR_FIX64K_00000: 0x250,
  IA32_MTRR_FIX16K_80000: 0x258,
  IA32_MTRR_FIX16K_A0000: 0x259,
  IA32_MTRR_FIX4K_C0000: 0x268,
  IA32_MTRR_FIX4K_C8000: 0x269,
  IA32_MTRR_FIX4K_D0000: 0x26a,
  IA32_MTRR_FIX4K_D8000: 0x26b,
  IA32_MTRR_FIX4K_E0000: 0x26c,
  IA32_MTRR_FIX4K_E8000: 0x26d,
  IA32_MTRR_FIX4K_F0000: 0x26e,
  IA32_MTRR_FIX4K_F8000: 0x26f,
  IA32_PAT: 0x277,
  IA32_MTRR_DEF_TYPE: 0x2ff,
} as const

/** A MSR that the application reads. */
export type RecordedMsr = keyof typeof RECORDED_MSRS

export const MSR_NAMES: readonly RecordedMsr[] = Object.keys(RECORDED_MSRS) as RecordedMsr[]

/** Fields of what the application writes down, by offset: eight bytes each, little endian. */
export const RecordField = {
  ImageHandle: 0x00,
  SystemTable: 0x08,
  /** What GetMemoryMap wrote last. */
  MapSize: 0x10,
  MapKey: 0x18,
  DescriptorSize: 0x20,
  DescriptorVersion: 0x28,
  /** EFI_STATUS of the last ExitBootServices. */
  Status: 0x30,
  /** Times that ExitBootServices was called. */
  Attempts: 0x38,
  /** The MSRs in the order of {@link MSR_NAMES}. */
  Msrs: 0x40,
} as const

export const RECORD_SIZE: number = RecordField.Msrs + MSR_NAMES.length * 8

/** What the application leaves: which map it left boot services with, and what the processor was set up to. */
export interface HandOverRecord {
  /** Physical address of EFI_SYSTEM_TABLE. */
  readonly systemTable: number
  /** Bytes. */
  readonly mapSize: number
  readonly mapKey: number
  /** Bytes from one descriptor to the next. */
  readonly descriptorSize: number
  readonly descriptorVersion: number
  /** EFI_STATUS of the last ExitBootServices. */
  readonly status: bigint
  readonly attempts: number
  readonly msrs: Readonly<Record<RecordedMsr, bigint>>
}

/** Reads what the application has written, RECORD_SIZE bytes. */
export function decodeRecord(bytes: Uint8Array, architecture: Architecture): HandOverRecord {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const word = (offset: number): bigint => view.getBigUint64(offset, true)
  return {
    systemTable: Number(word(RecordField.SystemTable)),
    mapSize: Number(word(RecordField.MapSize)),
    mapKey: Number(word(RecordField.MapKey)),
    descriptorSize: Number(word(RecordField.DescriptorSize)),
    descriptorVersion: Number(word(RecordField.DescriptorVersion)),
    status: decodeStatus(architecture, word(RecordField.Status)),
    attempts: Number(word(RecordField.Attempts)),
    msrs: Object.fromEntries(
      MSR_NAMES.map((name, index) => [name, word(RecordField.Msrs + index * 8)]),
    ) as Record<RecordedMsr, bigint>,
  }
}
