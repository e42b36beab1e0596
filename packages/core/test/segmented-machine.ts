import {
  Cr0,
  type Cpu,
  type CpuFeatures,
  Efer,
  Machine,
  PageTableBuilder,
  phys,
  virt,
  ZEN3,
} from '../src/index.ts'

/** What a segment descriptor says; a flat, present, accessed one of level 0 unless told otherwise. */
export interface SegmentDescription {
  readonly base?: number
  /** In units of the granularity. */
  readonly limit?: number
  /** Bits 40 to 47: type, S, DPL, P. */
  readonly access: number
  /** Bits 52 to 55: AVL, L, D/B, G. */
  readonly flags?: number
}

export const CODE64: SegmentDescription = { access: 0x9b, flags: 0xa }
export const CODE32: SegmentDescription = { access: 0x9b, flags: 0xc }
export const DATA: SegmentDescription = { access: 0x93, flags: 0xc }

export const GDT = 0x1000
const IDT = 0x2000
export const TSS = 0x3000
export const LDT = 0x3800
/** Where code that is called or interrupted stands. */
export const STACK_TOP = 0x9000
export const INNER_STACK_TOP = 0xa000

export interface SegmentedMachine {
  readonly cpu: Cpu
  readonly machine: Machine
  /** Puts a descriptor into the GDT, or into the LDT, and returns its selector. */
  readonly describe: (index: number, segment: SegmentDescription, table?: number) => number
  /** Puts a system descriptor of a TSS or LDT there, of 16 bytes in IA-32e mode. */
  readonly describeSystem: (index: number, base: number, access: number, limit?: number) => number
}

/**
 * A machine whose memory below 2 MiB is mapped to itself for everyone, in protected mode without paging, or in IA-32e mode. CS is 0x08, SS is 0x10; the GDT has 32 entries. Level 0.
 */
export function segmentedMachine(
  mode: 'protected' | 'ia32e',
  features: CpuFeatures = ZEN3,
): SegmentedMachine {
  const machine = new Machine({ features, start: mode === 'protected' ? 'reset' : 'long-mode' })
  const cpu = machine.bootCpu
  const { memory } = machine
  if (mode === 'protected') {
    cpu.writeCr0(Cr0.PE)
  } else {
    let next = 0x101
    const tables = new PageTableBuilder(memory, phys(0x10_0000), () => next++)
    tables.mapRange(virt(0), phys(0), 0x20_0000, { user: true, executable: true })
    cpu.writeCr3(tables.root)
    cpu.writeEfer(cpu.efer | Efer.SCE)
  }
  const describe: SegmentedMachine['describe'] = (index, segment, table = GDT) => {
    const { base = 0, limit = 0xf_ffff, access, flags = 0 } = segment
    const at = table + index * 8
    memory.write32(at, ((base & 0xffff) << 16) | (limit & 0xffff))
    memory.write32(
      at + 4,
      (base & 0xff00_0000) |
        (flags << 20) |
        (limit & 0xf_0000) |
        (access << 8) |
        ((base >>> 16) & 0xff),
    )
    return index * 8 + (table === GDT ? 0 : 4)
  }
  describe(1, mode === 'ia32e' ? CODE64 : CODE32)
  describe(2, DATA)
  cpu.gdtr = { base: BigInt(GDT), limit: 32 * 8 - 1 }
  cpu.idtr = { base: BigInt(IDT), limit: 0xfff }
  const describeSystem: SegmentedMachine['describeSystem'] = (
    index,
    base,
    access,
    limit = 0x67,
  ) => {
    describe(index, { base, limit, access })
    memory.write32(GDT + index * 8 + 8, 0)
    memory.write32(GDT + index * 8 + 12, 0)
    return index * 8
  }
  cpu.rsp = BigInt(STACK_TOP)
  return { cpu, machine, describe, describeSystem }
}

/** The mnemonic and error code of what is thrown, such as "#GP(0x18)". */
export function faultOf(code: () => unknown): string {
  try {
    code()
  } catch (error) {
    const { mnemonic, pushedCode } = error as { mnemonic: string; pushedCode: number | undefined }
    return pushedCode === undefined ? mnemonic : `${mnemonic}(0x${pushedCode.toString(16)})`
  }
  return 'no fault'
}
