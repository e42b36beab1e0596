/** What a CPU model can do, as far as paging is concerned. */
export interface CpuFeatures {
  readonly name: string
  /** MAXPHYADDR: bits of a physical address, 36 to 52. */
  readonly maxPhysicalAddressBits: number
  /** CPUID.80000001H:EDX[20]: no-execute pages. */
  readonly nx: boolean
  /** CPUID.80000001H:EDX[26]: 1 GiB pages. */
  readonly pages1G: boolean
  /** CPUID.01H:EDX[13]: global pages. */
  readonly pge: boolean
  /** CPUID.07H:EBX[7]. */
  readonly smep: boolean
  /** CPUID.07H:EBX[20]. */
  readonly smap: boolean
}

/** A server of the summer of 2010: Nehalem-EP, 40 physical bits, no 1 GiB pages, no SMEP (family 6, model 26). */
export const NEHALEM: CpuFeatures = {
  name: 'nehalem',
  maxPhysicalAddressBits: 40,
  nx: true,
  pages1G: false,
  pge: true,
  smep: false,
  smap: false,
}

/** Broadwell-EP, 46 physical bits: 1 GiB pages, SMEP and SMAP (family 6, model 79). */
export const BROADWELL: CpuFeatures = {
  name: 'broadwell',
  maxPhysicalAddressBits: 46,
  nx: true,
  pages1G: true,
  pge: true,
  smep: true,
  smap: true,
}
