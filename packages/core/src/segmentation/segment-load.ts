import { Cr0 } from '../cpu/control.ts'
import type { Cpu } from '../cpu/cpu.ts'
import { Rflags } from '../cpu/rflags.ts'
import {
  Segment,
  type SegmentNumber,
  type SegmentRegister,
  SegmentRights,
} from '../cpu/segment-register.ts'
import {
  type Descriptor,
  is64BitMode,
  isCode,
  isConforming,
  isIa32e,
  isNull,
  isPresent,
  isWritableData,
  markDescriptor,
  privilegeOf,
  readDescriptor,
  type SelectorFault,
  segmentOf,
  selectorFault,
  systemType,
} from './descriptor.ts'

const FLAT_LIMIT = 0xffff_ffff
/** Whether selectors are paragraphs: in real-address mode and in virtual-8086 mode. */
export function isRealMode(cpu: Cpu): boolean {
  return (cpu.cr0 & Cr0.PE) === 0 || (cpu.controlFlags & Rflags.VM) !== 0
}

/** A segment register in real-address mode: base and selector change, limit and rights stay (SDM Vol. 3, 20.1.1). */
export function realModeSegment(selector: number, before: SegmentRegister): SegmentRegister {
  return { ...before, selector, base: BigInt(selector) << 4n }
}

/** A segment register that holds a null selector and cannot be used. */
export function nullSegment(selector: number): SegmentRegister {
  return { selector, base: 0n, limit: FLAT_LIMIT, rights: 0 }
}

/**
 * Loads ES, SS, DS, FS or GS as MOV and POP do (SDM Vol. 2, MOV): what a selector names is checked for its type, for privilege and for being there, and is marked as accessed. A null selector makes
 * a segment unusable; in SS it is allowed in 64-bit mode only, below privilege level 3. Throws #GP, #NP and #SS.
 */
export function loadSegmentRegister(
  cpu: Cpu,
  number: Exclude<SegmentNumber, typeof Segment.CS>,
  selector: number,
): void {
  if (isRealMode(cpu)) {
    cpu.loadSegment(number, realModeSegment(selector, cpu.segments[number]!))
  } else if (number === Segment.SS) {
    cpu.loadSegment(number, stackSegment(cpu, selector))
  } else if (isNull(selector)) {
    cpu.loadSegment(number, emptied(cpu, number, selector))
  } else {
    cpu.loadSegment(number, dataSegment(cpu, selector))
  }
}

/** AMD leaves the base where it was when a null selector is loaded (APM Vol. 2, 4.5.3), Intel clears it. */
function emptied(cpu: Cpu, number: SegmentNumber, selector: number): SegmentRegister {
  const segment = nullSegment(selector)
  if (cpu.machine.features.vendor === 'intel') return segment
  return { ...segment, base: cpu.segments[number]!.base }
}

function stackSegment(cpu: Cpu, selector: number): SegmentRegister {
  const { cpl } = cpu
  if (isNull(selector)) {
    if (!is64BitMode(cpu) || cpl === 3 || (selector & 3) !== cpl) {
      throw selectorFault(cpu, '#GP', 0)
    }
    return nullSegment(selector)
  }
  return checkedStackSegment(cpu, selector, { level: cpl, mnemonic: '#GP', external: 0 })
}

/**
 * The stack segment for a privilege level: writable data of just that level, by descriptor and by RPL. A violation is `mnemonic` with the selector, a segment that is not
 * there #SS.
 */
export function checkedStackSegment(
  cpu: Cpu,
  selector: number,
  {
    level,
    mnemonic,
    external,
  }: { readonly level: number; readonly mnemonic: SelectorFault; readonly external: number },
): SegmentRegister {
  const code = (selector & 0xfffc) + external
  if ((selector & 3) !== level) throw selectorFault(cpu, mnemonic, code)
  const descriptor = readDescriptor(cpu, selector, mnemonic, external)
  if (!isWritableData(descriptor) || privilegeOf(descriptor) !== level) {
    throw selectorFault(cpu, mnemonic, code)
  }
  if (!isPresent(descriptor)) throw selectorFault(cpu, '#SS', code)
  return accessed(cpu, selector, descriptor)
}

function dataSegment(cpu: Cpu, selector: number): SegmentRegister {
  const descriptor = readDescriptor(cpu, selector)
  const code = selector & 0xfffc
  if (!isReadable(descriptor)) throw selectorFault(cpu, '#GP', code)
  const ruledByPrivilege = !isCode(descriptor) || !isConforming(descriptor)
  const privilege = privilegeOf(descriptor)
  if (ruledByPrivilege && ((selector & 3) > privilege || cpu.cpl > privilege)) {
    throw selectorFault(cpu, '#GP', code)
  }
  if (!isPresent(descriptor)) throw selectorFault(cpu, '#NP', code)
  return accessed(cpu, selector, descriptor)
}

/** Data, or code that can be read. */
export function isReadable(descriptor: Descriptor): boolean {
  if (systemType(descriptor) !== undefined) return false
  return !isCode(descriptor) || (descriptor.high & SegmentRights.ReadableOrWritable) !== 0
}

/** The segment register for a descriptor, which is marked as accessed in its table. */
export function accessed(cpu: Cpu, selector: number, descriptor: Descriptor): SegmentRegister {
  markDescriptor(cpu, descriptor, SegmentRights.Accessed)
  const segment = segmentOf(selector, descriptor)
  return { ...segment, rights: segment.rights | SegmentRights.Accessed }
}

/** Whether a code segment has both L and D set, which IA-32e mode has no meaning for: #GP (SDM Vol. 3, 3.4.5). */
export function isAmbiguousCode(cpu: Cpu, { high }: Descriptor): boolean {
  const both = SegmentRights.Long | SegmentRights.Default32
  return isIa32e(cpu) && (high & both) === both
}

/**
 * What a return to an outer privilege level leaves of ES, DS, FS and GS: those that its code may not use become null (SDM Vol. 2, RET). The base stays, which counts for FS and GS in 64-bit mode, as QEMU and Bochs have it.
 */
export function dropInnerSegments(cpu: Cpu, level: number): void {
  for (const number of [Segment.ES, Segment.DS, Segment.FS, Segment.GS]) {
    const segment = cpu.segments[number]!
    const { rights } = segment
    if (rights === 0) continue
    const isConformingCode =
      (rights & SegmentRights.Code) !== 0 && (rights & SegmentRights.ConformingOrExpandDown) !== 0
    if (!isConformingCode && ((rights >>> SegmentRights.PrivilegeShift) & 3) < level) {
      cpu.loadSegment(number, { ...segment, selector: 0, rights: 0 })
    }
  }
}
