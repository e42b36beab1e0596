import {
  Code,
  CodeExt,
  CpuidFeature,
  EncodingKind,
  type FlowControl,
  Instruction,
  Mnemonic,
} from 'iced-x86'

import { type HostFeatures, modeOf } from '../native/host.ts'
import type { Form } from './form.ts'

/** What decides how a form is run. */
export interface FormTraits {
  readonly code: Code
  readonly mnemonic: Mnemonic
  readonly flowControl: FlowControl
  /** iced-x86's CpuidFeature values. */
  readonly features: ReadonlySet<number>
  /** Whether registers of x87, MMX or SSE take part. */
  readonly fpu: boolean
  /** Whether its memory operand is a state of x87 or SSE. */
  readonly storesState: boolean
  /** Whether it has a VEX or EVEX prefix. */
  readonly avx: boolean
  /** Whether it needs privilege level 0. */
  readonly privileged: boolean
}

const FPU_FEATURES: readonly CpuidFeature[] = [
  CpuidFeature.FPU,
  CpuidFeature.FPU287,
  CpuidFeature.FPU387,
  CpuidFeature.MMX,
  CpuidFeature.FXSR,
  CpuidFeature.SSE,
  CpuidFeature.SSE2,
  CpuidFeature.SSE3,
  CpuidFeature.SSSE3,
  CpuidFeature.SSE4_1,
  CpuidFeature.SSE4_2,
  CpuidFeature.XSAVE,
  CpuidFeature.XSAVEC,
  CpuidFeature.XSAVEOPT,
  CpuidFeature.XSAVES,
]

const STATE_STORES = /^(Fx(save|rstor)|X(save|rstor)|F(n?save|rstor|n?stenv|ldenv))/

/** What iced-x86 knows of a form. */
export function traitsOf({ code }: Form): FormTraits {
  const instruction = new Instruction()
  instruction.code = code
  const opCode = CodeExt.opCode(code)
  const features = new Set<number>(instruction.cpuidFeatures())
  const traits = {
    code,
    mnemonic: instruction.mnemonic,
    flowControl: instruction.flowControl,
    features,
    fpu: FPU_FEATURES.some((feature) => features.has(feature)),
    storesState: STATE_STORES.test(Code[code]),
    avx: opCode.encoding !== EncodingKind.Legacy,
    privileged: opCode.mustBeCpl0,
  }
  opCode.free()
  instruction.free()
  return traits
}

type Word = 'eax' | 'ebx' | 'ecx' | 'edx'

/** Where CPUID tells of a feature (SDM Vol. 2, CPUID): those that not all processors of x86-64 have. */
const FEATURE_BITS: readonly (readonly [CpuidFeature, leaf: string, Word, bit: number])[] = [
  [CpuidFeature.SSE3, '1:0', 'ecx', 0],
  [CpuidFeature.PCLMULQDQ, '1:0', 'ecx', 1],
  [CpuidFeature.MONITOR, '1:0', 'ecx', 3],
  [CpuidFeature.SSSE3, '1:0', 'ecx', 9],
  [CpuidFeature.CMPXCHG16B, '1:0', 'ecx', 13],
  [CpuidFeature.SSE4_1, '1:0', 'ecx', 19],
  [CpuidFeature.SSE4_2, '1:0', 'ecx', 20],
  [CpuidFeature.MOVBE, '1:0', 'ecx', 22],
  [CpuidFeature.POPCNT, '1:0', 'ecx', 23],
  [CpuidFeature.AES, '1:0', 'ecx', 25],
  [CpuidFeature.XSAVE, '1:0', 'ecx', 27],
  [CpuidFeature.AVX, '1:0', 'ecx', 28],
  [CpuidFeature.F16C, '1:0', 'ecx', 29],
  [CpuidFeature.RDRAND, '1:0', 'ecx', 30],
  [CpuidFeature.FSGSBASE, '7:0', 'ebx', 0],
  [CpuidFeature.BMI1, '7:0', 'ebx', 3],
  [CpuidFeature.AVX2, '7:0', 'ebx', 5],
  [CpuidFeature.BMI2, '7:0', 'ebx', 8],
  [CpuidFeature.INVPCID, '7:0', 'ebx', 10],
  [CpuidFeature.RTM, '7:0', 'ebx', 11],
  [CpuidFeature.RDSEED, '7:0', 'ebx', 18],
  [CpuidFeature.ADX, '7:0', 'ebx', 19],
  [CpuidFeature.SMAP, '7:0', 'ebx', 20],
  [CpuidFeature.CLFLUSHOPT, '7:0', 'ebx', 23],
  [CpuidFeature.CLWB, '7:0', 'ebx', 24],
  [CpuidFeature.SHA, '7:0', 'ebx', 29],
  [CpuidFeature.PKU, '7:0', 'ecx', 3],
  [CpuidFeature.RDPID, '7:0', 'ecx', 22],
  [CpuidFeature.XSAVEOPT, 'd:1', 'eax', 0],
  [CpuidFeature.XSAVEC, 'd:1', 'eax', 1],
  [CpuidFeature.XSAVES, 'd:1', 'eax', 3],
  [CpuidFeature.LZCNT, '80000001:0', 'ecx', 5],
  [CpuidFeature.SSE4A, '80000001:0', 'ecx', 6],
  [CpuidFeature.RDTSCP, '80000001:0', 'edx', 27],
]

/** A feature that a form needs and the host lacks, undefined where it has them all. */
export function missingFeature(traits: FormTraits, host: HostFeatures): string | undefined {
  const lacking = FEATURE_BITS.find(
    ([feature, leaf, word, bit]) =>
      traits.features.has(feature) && (((host.get(leaf)?.[word] ?? 0) >>> bit) & 1) === 0,
  )
  return lacking === undefined ? undefined : CpuidFeature[lacking[0]]
}

/** Features that no emulated processor has: their instructions are #UD, as they are on a host without them. */
const ABSENT: readonly (readonly [CpuidFeature, leaf: string, Word, bit: number])[] = [
  [CpuidFeature.VMX, '1:0', 'ecx', 5],
  [CpuidFeature.SMX, '1:0', 'ecx', 6],
  [CpuidFeature.SVM, '80000001:0', 'ecx', 2],
  [CpuidFeature.SKINIT, '80000001:0', 'ecx', 12],
  [CpuidFeature.SKINIT_or_SVM, '80000001:0', 'ecx', 2],
  [CpuidFeature.INVEPT, '1:0', 'ecx', 5],
  [CpuidFeature.INVVPID, '1:0', 'ecx', 5],
  [CpuidFeature.RDPRU, '80000008:0', 'ebx', 4],
]

const HYPERVISOR = 31
/** SYSEXIT in long mode is #UD on AMD's processors (APM Vol. 3), which KVM takes over there (arch/x86/kvm/emulate.c, EmulateOnUD). */
const EMULATED_ON_AMD: ReadonlySet<Mnemonic> = new Set([Mnemonic.Sysexit, Mnemonic.Sysexitq])

/**
 * Why a guest of a hypervisor does not show what a processor does by itself. EFER.SVME is set for guests, as VMRUN takes no other (APM Vol. 2, 15.5.1): instructions of SVM are #GP for a user then, and
 * not #UD, though CPUID does not tell of them.
 */
export function answeredByHypervisor(traits: FormTraits, host: HostFeatures): string | undefined {
  const isGuest = (((host.get('1:0')?.ecx ?? 0) >>> HYPERVISOR) & 1) === 1
  if (!isGuest || modeOf(host).vendor !== 'amd') return undefined
  if (EMULATED_ON_AMD.has(traits.mnemonic)) return 'which answers the instruction'
  const isOfSvm = SVM_FEATURES.some((feature) => traits.features.has(feature))
  return isOfSvm ? 'under which EFER.SVME is set, and instructions of SVM are #GP' : undefined
}

const SVM_FEATURES = [CpuidFeature.SVM, CpuidFeature.SKINIT, CpuidFeature.SKINIT_or_SVM]

/** A feature that a form needs and the host has, and no emulated processor; undefined where there is none. */
export function absentFeature(traits: FormTraits, host: HostFeatures): string | undefined {
  const found = ABSENT.find(
    ([feature, leaf, word, bit]) =>
      traits.features.has(feature) && (((host.get(leaf)?.[word] ?? 0) >>> bit) & 1) === 1,
  )
  return found === undefined ? undefined : CpuidFeature[found[0]]
}

const BY_HYPERVISOR = 'is answered by the hypervisor that the host may be under'
const SEGMENT_REGISTERS = 'changes segment registers that the child process runs on'

/** Why an instruction is not run in the child process. */
const NOT_NATIVE: readonly (readonly [reason: string, mnemonics: readonly Mnemonic[]])[] = [
  [
    'enters the host kernel',
    [Mnemonic.Syscall, Mnemonic.Sysenter, Mnemonic.Sysret, Mnemonic.Sysretq, Mnemonic.Int],
  ],
  [
    BY_HYPERVISOR,
    [Mnemonic.Vmcall, Mnemonic.Vmmcall, Mnemonic.Vmgexit, Mnemonic.Tdcall, Mnemonic.Vmfunc],
  ],
  [
    'is answered by Linux where CR4.UMIP is set (arch/x86/kernel/umip.c)',
    [Mnemonic.Sgdt, Mnemonic.Sidt, Mnemonic.Sldt, Mnemonic.Smsw, Mnemonic.Str],
  ],
  [SEGMENT_REGISTERS, [Mnemonic.Lds, Mnemonic.Les, Mnemonic.Lfs, Mnemonic.Lgs, Mnemonic.Lss]],
  [
    'loads RFLAGS.TF, by which the child process would step it',
    [Mnemonic.Iret, Mnemonic.Iretd, Mnemonic.Iretq],
  ],
  ['takes away the memory of the child process', [Mnemonic.Wrpkru]],
  ['traps by itself', [Mnemonic.Int1, Mnemonic.Int3, Mnemonic.Into]],
  ['begins or ends a transaction', [Mnemonic.Xbegin, Mnemonic.Xend, Mnemonic.Xabort]],
  ['gives random numbers', [Mnemonic.Rdrand, Mnemonic.Rdseed]],
]
const NOT_NATIVE_BY_MNEMONIC = new Map(
  NOT_NATIVE.flatMap(([reason, mnemonics]) => mnemonics.map((each) => [each, reason] as const)),
)

/** Loads of segment registers have no mnemonic of their own. */
const SEGMENT_LOAD = /^(Mov_Sreg_|Pop[wdq]?_(DS|ES|SS|FS|GS))/

export function reasonNotNative({ mnemonic, code, avx }: FormTraits): string | undefined {
  if (SEGMENT_LOAD.test(Code[code])) return SEGMENT_REGISTERS
  if (avx) return 'has registers of AVX, which are not modelled'
  return NOT_NATIVE_BY_MNEMONIC.get(mnemonic)
}
