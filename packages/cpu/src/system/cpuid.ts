import {
  type Cpu,
  CPU_MODELS,
  type CpuFeatures,
  type CpuModel,
  Cr4,
  supportedLinearBits,
} from '@trapdoor/core'
import { STATE_COMPONENTS, XSAVE_AREA_BYTES } from '../x87/state-components.ts'
import { hasInstructionSet } from './instruction-sets.ts'

/** What CPUID leaves in its four registers. */
export interface Identification {
  readonly eax: number
  readonly ebx: number
  readonly ecx: number
  readonly edx: number
}

const NOTHING: Identification = { eax: 0, ebx: 0, ecx: 0, edx: 0 }
const LAST_BASIC = 0x0d
const FIRST_EXTENDED = 0x8000_0000
const LAST_EXTENDED = 0x8000_0008
const VENDORS = { intel: 'GenuineIntel', amd: 'AuthenticAMD' } as const
/** FPU, TSC, MSR, CX8, CMOV, PAT, CLFSH, MMX, FXSR, SSE, SSE2: what every x86-64 processor has. */
const BASELINE_EDX: number = flags(
  ...[0, 4, 5, 8, 15, 16, 19, 23, 24, 25, 26].map((bit) => [bit, true] as const),
)
/** Those that AMD's extended leaf repeats. */
const REPEATED_EDX = 0x0183_f3ff
const BRAND_LEAVES = 0x8000_0002
/** Bytes of a cache line that CLFLUSH names, divided by 8. */
const CLFLUSH_LINES = 8

/**
 * CPUID of a CPU (SDM Vol. 2, CPUID; APM Vol. 3, appendix E): features of its model as far as they are modelled, so that a guest finds nothing that it cannot use. Leaves that are not there give zeros.
 */
export function identify(cpu: Cpu, leaf: number, subleaf: number): Identification {
  const { features } = cpu.machine
  switch (leaf) {
    case 0:
      return vendorLeaf(features, LAST_BASIC)
    case 1:
      return { ...versionOf(features), ...basicFeatures(cpu) }
    case 7:
      return subleaf === 0
        ? structuredFeatures(cpu)
        : subleaf === 1
          ? laterFeatures(features)
          : NOTHING
    case 0x0d:
      return extendedState(cpu, subleaf)
    case FIRST_EXTENDED:
      return vendorLeaf(features, LAST_EXTENDED)
    case 0x8000_0001:
      return extendedFeatures(features)
    case 0x8000_0008:
      return {
        ...NOTHING,
        eax: features.maxPhysicalAddressBits | (supportedLinearBits(features) << 8),
      }
    default:
      return leaf >= BRAND_LEAVES && leaf < BRAND_LEAVES + 3
        ? brandLeaf(features, leaf - BRAND_LEAVES)
        : NOTHING
  }
}

function flags(...bits: readonly (readonly [number, boolean])[]): number {
  return bits.reduce((all, [bit, isSet]) => (isSet ? all | (1 << bit) : all), 0)
}

/** The vendor in EBX, EDX, ECX; AMD repeats it in the extended leaves, Intel does not. */
function vendorLeaf({ vendor }: CpuFeatures, last: number): Identification {
  if (vendor === 'intel' && last >= FIRST_EXTENDED) return { ...NOTHING, eax: last | 0 }
  const text = VENDORS[vendor]
  return { eax: last | 0, ebx: word(text, 0), edx: word(text, 4), ecx: word(text, 8) }
}

/** Four characters as a little-endian word; none are zeros. */
function word(text: string, at: number): number {
  let value = 0
  for (let index = 3; index >= 0; index--) {
    value = (value << 8) | (text.charCodeAt(at + index) || 0)
  }
  return value
}

function modelOf({ name }: CpuFeatures): CpuModel | undefined {
  return Object.hasOwn(CPU_MODELS, name) ? CPU_MODELS[name as keyof typeof CPU_MODELS] : undefined
}

/** EAX: family and model, with what does not fit into 4 bits in the extended fields (SDM Vol. 2, figure 3-6). */
function versionOf(features: CpuFeatures): Pick<Identification, 'eax'> {
  const { family, model } = modelOf(features) ?? { family: 6, model: 0 }
  const base = Math.min(family, 15)
  return {
    eax: ((family - base) << 20) | ((model >>> 4) << 16) | (base << 8) | ((model & 15) << 4),
  }
}

function basicFeatures(cpu: Cpu): Omit<Identification, 'eax'> {
  const { features } = cpu.machine
  const has = (set: Parameters<typeof hasInstructionSet>[1]): boolean =>
    hasInstructionSet(features, set)
  const apic = cpu.localApic
  return {
    ebx: (cpu.id << 24) | (1 << 16) | (CLFLUSH_LINES << 8),
    ecx: flags(
      [13, has('CMPXCHG16B')],
      [17, features.pcid],
      [21, apic !== undefined && has('X2APIC')],
      [23, has('POPCNT')],
      [26, has('XSAVE')],
      // OSXSAVE.
      [27, (cpu.cr4 & Cr4.OSXSAVE) !== 0],
    ),
    edx:
      BASELINE_EDX |
      flags(
        [3, features.pse],
        [6, features.pae],
        [9, apic?.isEnabled === true],
        [11, features.vendor === 'intel'],
        [13, features.pge],
        [17, features.pse36],
      ),
  }
}

function structuredFeatures(cpu: Cpu): Identification {
  const { features } = cpu.machine
  return {
    eax: features.lass ? 1 : 0,
    ebx: flags(
      [0, hasInstructionSet(features, 'FSGSBASE')],
      [7, features.smep],
      [9, hasInstructionSet(features, 'ERMS')],
      [10, features.invpcid],
      [20, features.smap],
      [23, hasInstructionSet(features, 'CLFLUSHOPT')],
      [24, hasInstructionSet(features, 'CLWB')],
    ),
    ecx: flags(
      [2, hasInstructionSet(features, 'UMIP')],
      [3, features.pku],
      [4, (cpu.cr4 & Cr4.PKE) !== 0],
      [16, features.la57],
      [22, hasInstructionSet(features, 'RDPID')],
      [31, features.pks],
    ),
    edx: 0,
  }
}

/** Components of XCR0 and the size of an area with all of them, which is that of those enabled, as both are in its legacy region; then XSAVEC and XGETBV with ECX = 1 (SDM Vol. 1, 13.2). */
function extendedState(cpu: Cpu, subleaf: number): Identification {
  const { features } = cpu.machine
  if (!hasInstructionSet(features, 'XSAVE')) return NOTHING
  if (subleaf === 0) {
    return { eax: STATE_COMPONENTS, ebx: XSAVE_AREA_BYTES, ecx: XSAVE_AREA_BYTES, edx: 0 }
  }
  const isCompacted = subleaf === 1 && hasInstructionSet(features, 'XSAVEC')
  return isCompacted
    ? { ...NOTHING, eax: flags([1, true], [2, true]), ebx: XSAVE_AREA_BYTES }
    : NOTHING
}

function laterFeatures(features: CpuFeatures): Identification {
  return { ...NOTHING, eax: flags([6, features.lass]) }
}

function extendedFeatures(features: CpuFeatures): Identification {
  const amd = features.vendor === 'amd'
  return {
    eax: 0,
    ebx: 0,
    ecx: flags([0, hasInstructionSet(features, 'LAHF')]),
    edx:
      // AMD repeats what leaf 1 says.
      (amd ? (BASELINE_EDX & REPEATED_EDX) | flags([3, features.pse], [6, features.pae]) : 0) |
      flags(
        [11, features.longMode],
        [13, amd && features.pge],
        [17, amd && features.pse36],
        [20, features.nx],
        [26, features.pages1G],
        [27, hasInstructionSet(features, 'RDTSCP')],
        [29, features.longMode],
      ),
  }
}

/** Sixteen characters of the processor's name. */
function brandLeaf(features: CpuFeatures, part: number): Identification {
  const text = (modelOf(features)?.product ?? features.name).slice(part * 16, part * 16 + 16)
  return { eax: word(text, 0), ebx: word(text, 4), ecx: word(text, 8), edx: word(text, 12) }
}
