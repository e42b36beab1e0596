import type { CpuFeatures, CpuModelName } from '@trapdoor/core'

/** Intel's big cores, AMD's, and those that are in no line, in the order in which they came out. */
const INTEL: readonly CpuModelName[] = [
  'core2',
  'nehalem',
  'nehalem-ex',
  'westmere',
  'sandy-bridge',
  'ivy-bridge',
  'haswell',
  'broadwell',
  'skylake',
  'skylake-sp',
  'ice-lake-sp',
  'sapphire-rapids',
  'lunar-lake',
  'arrow-lake',
]
const AMD: readonly CpuModelName[] = [
  'k8',
  'k10',
  'bulldozer',
  'zen',
  'vermeer',
  'zen3',
  'zen4',
  'zen5',
]

/** Instructions that are in no feature of paging, as far as the interpreter has them. */
export type InstructionSet =
  | 'CMPXCHG16B'
  | 'POPCNT'
  | 'X2APIC'
  | 'RDTSCP'
  | 'FSGSBASE'
  | 'ERMS'
  | 'CLFLUSHOPT'
  | 'CLWB'
  | 'UMIP'
  | 'LAHF'
  | 'RDPID'
  | 'XSAVE'
  /** XSAVEC, and XGETBV of the components in use, which came with it. */
  | 'XSAVEC'

/**
 * The first model of each line that has an instruction set, by what CPUID of these processors reports, and those beside the lines that have it. QEMU's are TCG_*_FEATURES of target/i386/cpu.c (7.2).
 */
const SINCE: Readonly<
  Record<
    InstructionSet,
    {
      readonly intel: CpuModelName
      readonly amd: CpuModelName | undefined
      readonly others: readonly CpuModelName[]
    }
  >
> = {
  CMPXCHG16B: { intel: 'core2', amd: 'k8', others: ['silvermont', 'qemu-tcg'] },
  LAHF: { intel: 'core2', amd: 'k8', others: ['silvermont', 'qemu-tcg'] },
  POPCNT: { intel: 'nehalem', amd: 'k10', others: ['silvermont', 'qemu-tcg'] },
  RDTSCP: { intel: 'nehalem', amd: 'k8', others: ['silvermont', 'qemu-tcg'] },
  X2APIC: { intel: 'nehalem', amd: 'zen3', others: [] },
  FSGSBASE: { intel: 'ivy-bridge', amd: 'zen', others: ['qemu-tcg'] },
  ERMS: { intel: 'ivy-bridge', amd: 'zen3', others: ['silvermont', 'qemu-tcg'] },
  CLFLUSHOPT: { intel: 'skylake', amd: 'zen', others: ['qemu-tcg'] },
  CLWB: { intel: 'skylake-sp', amd: 'vermeer', others: ['qemu-tcg'] },
  UMIP: { intel: 'ice-lake-sp', amd: 'vermeer', others: ['qemu-tcg'] },
  RDPID: { intel: 'ice-lake-sp', amd: 'vermeer', others: [] },
  XSAVE: { intel: 'sandy-bridge', amd: 'bulldozer', others: ['qemu-tcg'] },
  XSAVEC: { intel: 'skylake', amd: 'zen', others: [] },
}

/** Whether a model has an instruction set. A CPU of no known model has none of them. */
export function hasInstructionSet({ name }: CpuFeatures, set: InstructionSet): boolean {
  const { intel, amd, others } = SINCE[set]
  const model = name as CpuModelName
  if (others.includes(model)) return true
  if (INTEL.includes(model)) return INTEL.indexOf(model) >= INTEL.indexOf(intel)
  return AMD.includes(model) && amd !== undefined && AMD.indexOf(model) >= AMD.indexOf(amd)
}
