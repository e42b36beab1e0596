import type { LinearAddressBits } from '../address.ts'

/** What a CPU model can do, as far as paging is concerned. */
export interface CpuFeatures {
  readonly name: string
  readonly vendor: 'intel' | 'amd'
  /** MAXPHYADDR, CPUID.80000008H:EAX[7:0]: bits of a physical address, 36 to 52. */
  readonly maxPhysicalAddressBits: number
  /** CPUID.80000001H:EDX[29]. */
  readonly longMode: boolean
  /** CPUID.01H:EDX[3]: 4 MiB pages in 32-bit paging. */
  readonly pse: boolean
  /** CPUID.01H:EDX[17]: 4 MiB pages above 4 GiB. */
  readonly pse36: boolean
  /** CPUID.01H:EDX[6]. */
  readonly pae: boolean
  /** CPUID.01H:EDX[13]: global pages. */
  readonly pge: boolean
  /** CPUID.80000001H:EDX[20]: no-execute pages. */
  readonly nx: boolean
  /** CPUID.80000001H:EDX[26]: 1 GiB pages. */
  readonly pages1G: boolean
  /** CPUID.01H:ECX[17]: process-context identifiers. */
  readonly pcid: boolean
  /** CPUID.07H:EBX[10]. */
  readonly invpcid: boolean
  /** CPUID.07H:EBX[7]. */
  readonly smep: boolean
  /** CPUID.07H:EBX[20]. */
  readonly smap: boolean
  /** CPUID.07H:ECX[16]: 5-level paging. */
  readonly la57: boolean
  /** CPUID.07H:ECX[3]: protection keys of user pages. */
  readonly pku: boolean
  /** CPUID.07H:ECX[31]: protection keys of supervisor pages. */
  readonly pks: boolean
  /** CPUID.07H.1:EAX[6]: linear-address-space separation. */
  readonly lass: boolean
  /** CPUID.07H.0:EDX[20]: indirect-branch tracking, the half of CET that is modelled. */
  readonly ibt: boolean
  /** Whether bit 8 of an entry above the PDPTEs is reserved, as AMD has it (APM Vol. 2, 5.3.3); Intel ignores it. */
  readonly nonLeafGlobalReserved: boolean
}

/**
 * Bits of a linear address that a CPU model has, CPUID.80000008H:EAX[15:8]. By them, whatever CR4.LA57 says, it is judged whether what MSRs, GDTR, IDTR, LDTR and TR are to hold is canonical, and the address that INVPCID is given (5-Level Paging and 5-Level
 * EPT white paper, 2.5; kvm-unit-tests, x86/la57.c).
 */
export function supportedLinearBits({ la57 }: CpuFeatures): LinearAddressBits {
  return la57 ? 57 : 48
}
