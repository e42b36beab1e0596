/**
 * Where the guest's own things lie in physical memory, in bytes. Everything up to {@link IMAGE_LIMIT} is prepared by the host and read back by it. In legacy
 * modes, which have no room above, the guest's pages have the same linear addresses.
 */
export const Physical = {
  Header: 0x10_0000,
  Root: 0x10_1000,
  LowPml4: 0x10_2000,
  LowPdpts: 0x10_3000,
  HighPml4: 0x10_5000,
  HighPdpt: 0x10_6000,
  HighPd: 0x10_7000,
  HighPt: 0x10_8000,
  UserCode: 0x10_9000,
  Descriptors: 0x10_a000,
  InterruptTable: 0x10_b000,
  Stack: 0x10_c000,
  Code: 0x10_d000,
  LegacyCode: 0x10_e000,
  LegacyUserCode: 0x10_f000,
  /** Cases, results, lists and copies of tables follow. */
  Buffers: 0x11_0000,
} as const

/** The first byte that no image reaches. */
export const IMAGE_LIMIT = 0x200_0000

/** The last 2 MiB of the linear addresses, which every root maps alike: the guest runs there whatever tables a case has. */
export const HIGH_BASE: bigint = 0xffff_ffff_ffe0_0000n

/** The linear address of what lies in the guest's own pages, for cases in IA-32e mode or in a legacy mode. */
export function guestAddress(physical: number, longMode: boolean): bigint {
  return longMode ? HIGH_BASE + BigInt(physical - Physical.UserCode) : BigInt(physical)
}

/** Fields of the header, at {@link Physical}.Header: 64 bits each. */
export const Header = {
  Cr4: 0,
  Root: 8,
  Entry: 16,
  Cases: 24,
  CaseCount: 32,
  Results: 40,
  /** Physical addresses of the tables, and the copies that are made there before the first case and brought back after the last. */
  Tables: 48,
  TableCount: 56,
  TableCopies: 64,
  /** Physical addresses of the frames to fill with data. */
  DataFrames: 72,
  DataFrameCount: 80,
  /** What a case reads and writes that has nothing there. */
  Scratch: 88,
  GlobalDescriptorTable: 96,
  InterruptDescriptorTable: 112,
  /** Operand of a far jump: offset and selector. */
  LegacyEntry: 128,
  /** R8 to R15 while the processor is in a legacy mode. */
  Saved: 136,
} as const

/** Entries that a walk reads at the most. */
export const PATH_LENGTH = 5

/** Fields of a case. */
export const CaseField = {
  Cr3: 0,
  Cr0: 8,
  Cr4: 16,
  Efer: 24,
  Pkru: 28,
  Pkrs: 32,
  /** Where the access is made: what IRETQ takes from the stack. */
  Rip: 40,
  Cs: 48,
  Rflags: 56,
  Ss: 64,
  Address: 72,
  /** RAX before the access: what a write writes. */
  Value: 80,
  /** Physical address of eight bytes to report after the access, and what to set them to then. */
  Target: 88,
  Original: 96,
  /** Physical addresses of the entries on the way. */
  Path: 104,
} as const
export const CASE_BYTES: number = CaseField.Path + PATH_LENGTH * 8

/** Fields of a result. */
export const ResultField = {
  /** The exception's vector, or {@link COMPLETED}. */
  Vector: 0,
  ErrorCode: 4,
  Cr2: 8,
  Rax: 16,
  Target: 24,
  /** The low halves of the entries on the way. */
  Path: 32,
} as const
export const RESULT_BYTES = 56

/** The vector by which an access tells that it came to its end. */
export const COMPLETED = 0x20

/** CR2 before every access. */
export const CR2_BEFORE: bigint = 0x5a5a_5a5a_0000n

/** The ways to access, by the number of the guest's routine for it. */
export const Routine = { Read: 0, Write: 1, Execute: 2, StackRead: 3, StackWrite: 4 } as const
export type Routine = (typeof Routine)[keyof typeof Routine]
export const ROUTINE_BYTES = 16

/** Selectors in the guest's GDT. */
export const Selector = {
  Code: 0x08,
  Data: 0x10,
  UserData: 0x1b,
  UserCode: 0x23,
  Task: 0x28,
  LegacyCode: 0x38,
  LegacyUserCode: 0x43,
} as const

/**
 * The eight bytes that the data frames hold at a physical address that is a multiple of eight: MOV EAX, imm32; INT 20h; NOP, with address bits 34 to 3 as the
 * number. Who reads them knows the address, and so does who executes them.
 */
export function dataAt(physical: number): bigint {
  const number = BigInt.asUintN(32, BigInt(physical) >> 3n)
  return 0x9020_cd00_0000_00b8n | (number << 8n)
}
