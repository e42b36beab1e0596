import {
  type BootServiceName,
  layOutTables,
  type RuntimeServiceName,
  type TableLayout,
} from './table.ts'

/**
 * What firmware is built for: how wide pointers, UINTN and EFI_STATUS are, and where that puts the fields of its tables (UEFI 2.10, 2.3.1). Memory descriptors, EFI_TIME and capsule
 * headers are the same everywhere.
 */
export interface Architecture {
  readonly name: 'x64' | 'ia32'
  /** Bytes of a pointer, of UINTN and of EFI_STATUS. */
  readonly naturalBytes: 4 | 8
  readonly tables: TableLayout
}

/** x86-64: arguments in registers, then on the stack (UEFI 2.10, 2.3.4). */
export const X64: Architecture = { name: 'x64', naturalBytes: 8, tables: layOutTables(8) }

/** 32-bit x86: cdecl, all arguments on the stack (UEFI 2.10, 2.3.2). */
export const IA32: Architecture = { name: 'ia32', naturalBytes: 4, tables: layOutTables(4) }

/** The architectures by their names. */
export const ARCHITECTURES: Readonly<Record<Architecture['name'], Architecture>> = {
  x64: X64,
  ia32: IA32,
}

/** Bits of a natural integer. */
export function naturalBits({ naturalBytes }: Architecture): number {
  return naturalBytes * 8
}

/** Reads a pointer or UINTN, little endian. */
export function getNatural({ naturalBytes }: Architecture, view: DataView, offset: number): bigint {
  return naturalBytes === 8 ? view.getBigUint64(offset, true) : BigInt(view.getUint32(offset, true))
}

/** Writes a pointer or UINTN, of which the low bits count. */
export function setNatural(
  { naturalBytes }: Architecture,
  view: DataView,
  offset: number,
  value: bigint,
): void {
  if (naturalBytes === 8) view.setBigUint64(offset, value, true)
  else view.setUint32(offset, Number(BigInt.asUintN(32, value)), true)
}

/** An EFI_STATUS as a register of this architecture holds it: the error bit is the highest (UEFI 2.10, appendix D). */
export function encodeStatus(architecture: Architecture, status: bigint): bigint {
  if (architecture.naturalBytes === 8) return status
  return (status & 0x7fff_ffffn) | ((status >> 63n) << 31n)
}

/** What {@link encodeStatus} made of a status, as `EfiStatus` has it. */
export function decodeStatus(architecture: Architecture, register: bigint): bigint {
  if (architecture.naturalBytes === 8) return register
  return (register & 0x7fff_ffffn) | (((register >> 31n) & 1n) << 63n)
}

type ServiceName = RuntimeServiceName | BootServiceName

/** What an argument of a service is: a number of natural size or less, a pointer, or an EFI_PHYSICAL_ADDRESS by value, which has 64 bits on every architecture. */
type ArgumentKind = 'number' | 'pointer' | 'wide'

const NUMBER = 'number'
const POINTER = 'pointer'
const WIDE = 'wide'

/** The arguments of the services (UEFI 2.10, chapters 7 and 8). */
const ARGUMENTS: Readonly<Record<ServiceName, readonly ArgumentKind[]>> = {
  GetTime: [POINTER, POINTER],
  SetTime: [POINTER],
  GetWakeupTime: [POINTER, POINTER, POINTER],
  SetWakeupTime: [NUMBER, POINTER],
  SetVirtualAddressMap: [NUMBER, NUMBER, NUMBER, POINTER],
  ConvertPointer: [NUMBER, POINTER],
  GetVariable: [POINTER, POINTER, POINTER, POINTER, POINTER],
  GetNextVariableName: [POINTER, POINTER, POINTER],
  SetVariable: [POINTER, POINTER, NUMBER, NUMBER, POINTER],
  GetNextHighMonotonicCount: [POINTER],
  ResetSystem: [NUMBER, NUMBER, NUMBER, POINTER],
  UpdateCapsule: [POINTER, NUMBER, WIDE],
  QueryCapsuleCapabilities: [POINTER, NUMBER, POINTER, POINTER],
  QueryVariableInfo: [NUMBER, POINTER, POINTER, POINTER],
  AllocatePages: [NUMBER, NUMBER, NUMBER, POINTER],
  FreePages: [WIDE, NUMBER],
  GetMemoryMap: [POINTER, POINTER, POINTER, POINTER, POINTER],
  ExitBootServices: [POINTER, NUMBER],
}

/** How many arguments a service takes. */
export function argumentCount(service: ServiceName): number {
  return ARGUMENTS[service].length
}

/** Which arguments of a service are pointers, from 0. */
export function pointerArguments(service: ServiceName): readonly number[] {
  return ARGUMENTS[service].flatMap((kind, index) => (kind === POINTER ? [index] : []))
}

/** Where on the stack a callee finds argument `index` of a service, in words of this architecture from the first on, and how many words it has. */
export function argumentSlot(
  { naturalBytes }: Architecture,
  service: ServiceName,
  index: number,
): { readonly first: number; readonly words: 1 | 2 } {
  if (naturalBytes === 8) return { first: index, words: 1 }
  const kinds = ARGUMENTS[service]
  const wideBefore = kinds.slice(0, index).filter((kind) => kind === WIDE).length
  return { first: index + wideBefore, words: kinds[index] === WIDE ? 2 : 1 }
}

/** The arguments of a service as words that are passed: a 64-bit one is two words on ia32, the low half first. */
export function argumentWords(
  architecture: Architecture,
  service: ServiceName,
  args: readonly bigint[],
): readonly bigint[] {
  if (architecture.naturalBytes === 8) return args
  return args.flatMap((value, index) => {
    const low = BigInt.asUintN(32, value)
    const isWide = argumentSlot(architecture, service, index).words === 2
    return isWide ? [low, BigInt.asUintN(32, value >> 32n)] : [low]
  })
}
