import type { CpuFeatures } from './features.ts'

/** The key of a model in {@link CPU_MODELS}. */
export type CpuModelName =
  | 'core2'
  | 'k8'
  | 'k10'
  | 'nehalem'
  | 'nehalem-ex'
  | 'westmere'
  | 'bulldozer'
  | 'sandy-bridge'
  | 'ivy-bridge'
  | 'silvermont'
  | 'haswell'
  | 'skylake'
  | 'broadwell'
  | 'zen'
  | 'skylake-sp'
  | 'vermeer'
  | 'zen3'
  | 'ice-lake-sp'
  | 'zen4'
  | 'qemu-tcg'
  | 'sapphire-rapids'
  | 'lunar-lake'
  | 'arrow-lake'
  | 'zen5'

/** A processor that exists: what it can do, and which one it is. The features are those that its CPUID reports. */
export interface CpuModel extends CpuFeatures {
  readonly name: CpuModelName
  /** What it was sold as, and its code name. */
  readonly product: string
  /** The year it came out. */
  readonly year: number
  /** CPUID.01H:EAX: family and extended family, added. */
  readonly family: number
  /** CPUID.01H:EAX: extended model and model, joined. */
  readonly model: number
}

/** 64-bit mode and no-execute pages, and nothing that came later. */
export const CORE2: CpuModel = {
  name: 'core2',
  product: 'Xeon 5100 (Woodcrest)',
  year: 2006,
  family: 6,
  model: 15,
  vendor: 'intel',
  maxPhysicalAddressBits: 36,
  longMode: true,
  pse: true,
  pse36: true,
  pae: true,
  pge: true,
  nx: true,
  pages1G: false,
  pcid: false,
  invpcid: false,
  smep: false,
  smap: false,
  la57: false,
  pku: false,
  pks: false,
  lass: false,
  ibt: false,
  nonLeafGlobalReserved: false,
}

/** A server of the summer of 2010. */
export const NEHALEM: CpuModel = {
  ...CORE2,
  name: 'nehalem',
  product: 'Xeon 5500 (Nehalem-EP)',
  year: 2009,
  model: 26,
  maxPhysicalAddressBits: 40,
}

/** More memory than its sister, and no 1 GiB pages to map it with. */
export const NEHALEM_EX: CpuModel = {
  ...NEHALEM,
  name: 'nehalem-ex',
  product: 'Xeon 7500 (Beckton)',
  year: 2010,
  model: 46,
  maxPhysicalAddressBits: 44,
}

/** Intel's first with 1 GiB pages and PCIDs. */
export const WESTMERE: CpuModel = {
  ...NEHALEM,
  name: 'westmere',
  product: 'Xeon 5600 (Westmere-EP)',
  year: 2010,
  model: 44,
  pages1G: true,
  pcid: true,
}

/** Intel's second Core generation. */
export const SANDY_BRIDGE: CpuModel = {
  ...WESTMERE,
  name: 'sandy-bridge',
  product: 'Xeon E5-2600 (Sandy Bridge-EP)',
  year: 2012,
  model: 45,
  maxPhysicalAddressBits: 46,
}

/** The first with SMEP. */
export const IVY_BRIDGE: CpuModel = {
  ...SANDY_BRIDGE,
  name: 'ivy-bridge',
  product: 'Xeon E5-2600 v2 (Ivy Bridge-EP)',
  year: 2013,
  model: 62,
  smep: true,
}

/** A small core: SMEP, but neither 1 GiB pages nor PCIDs. */
export const SILVERMONT: CpuModel = {
  ...CORE2,
  name: 'silvermont',
  product: 'Atom C2000 (Avoton)',
  year: 2013,
  model: 77,
  smep: true,
}

/** The first with INVPCID. */
export const HASWELL: CpuModel = {
  ...IVY_BRIDGE,
  name: 'haswell',
  product: 'Xeon E5-2600 v3 (Haswell-EP)',
  year: 2014,
  model: 63,
  invpcid: true,
}

/** Broadwell, the first with SMAP, as a server. */
export const BROADWELL: CpuModel = {
  ...HASWELL,
  name: 'broadwell',
  product: 'Xeon E5-2600 v4 (Broadwell-EP)',
  year: 2016,
  model: 79,
  smap: true,
}

/** A desktop, with a desktop's 39 bits. */
export const SKYLAKE: CpuModel = {
  ...BROADWELL,
  name: 'skylake',
  product: 'Core i7-6700K (Skylake-S)',
  year: 2015,
  model: 94,
  maxPhysicalAddressBits: 39,
}

/** The first with protection keys for user pages. */
export const SKYLAKE_SP: CpuModel = {
  ...BROADWELL,
  name: 'skylake-sp',
  product: 'Xeon Scalable (Skylake-SP)',
  year: 2017,
  model: 85,
  pku: true,
}

/** 5-level paging. Its CPUID says 46 bits where firmware limits it, as most does. */
export const ICE_LAKE_SP: CpuModel = {
  ...SKYLAKE_SP,
  name: 'ice-lake-sp',
  product: '3rd Gen Xeon Scalable (Ice Lake-SP)',
  year: 2021,
  model: 106,
  la57: true,
}

/** Protection keys for supervisor pages, indirect-branch tracking, and all 52 bits. */
export const SAPPHIRE_RAPIDS: CpuModel = {
  ...ICE_LAKE_SP,
  name: 'sapphire-rapids',
  product: '4th Gen Xeon Scalable (Sapphire Rapids)',
  year: 2023,
  model: 143,
  maxPhysicalAddressBits: 52,
  pks: true,
  ibt: true,
}

/** A laptop with linear-address-space separation; 4 levels only. */
export const LUNAR_LAKE: CpuModel = {
  ...SKYLAKE_SP,
  name: 'lunar-lake',
  product: 'Core Ultra 200V (Lunar Lake)',
  year: 2024,
  model: 189,
  maxPhysicalAddressBits: 42,
  pks: true,
  lass: true,
  ibt: true,
}

/** Intel's desktop processors of 2024, with what {@link LUNAR_LAKE} has. */
export const ARROW_LAKE: CpuModel = {
  ...LUNAR_LAKE,
  name: 'arrow-lake',
  product: 'Core Ultra 200S (Arrow Lake)',
  model: 198,
  maxPhysicalAddressBits: 46,
}

/** AMD's 64-bit processor of the same summer as Core 2. */
export const K8: CpuModel = {
  ...CORE2,
  name: 'k8',
  product: 'Opteron 2200 (Santa Rosa)',
  family: 15,
  model: 65,
  vendor: 'amd',
  maxPhysicalAddressBits: 40,
  nonLeafGlobalReserved: true,
}

/** The first of all with 1 GiB pages. */
export const K10: CpuModel = {
  ...K8,
  name: 'k10',
  product: 'Opteron 2300 (Barcelona)',
  year: 2007,
  family: 16,
  model: 2,
  maxPhysicalAddressBits: 48,
  pages1G: true,
}

/** AMD's family 15h: K10 and the instructions of AVX's time. */
export const BULLDOZER: CpuModel = {
  ...K10,
  name: 'bulldozer',
  product: 'Opteron 6200 (Interlagos)',
  year: 2011,
  family: 21,
  model: 1,
}

/** SMEP and SMAP, but no PCIDs. */
export const ZEN: CpuModel = {
  ...BULLDOZER,
  name: 'zen',
  product: 'EPYC 7001 (Naples)',
  year: 2017,
  family: 23,
  smep: true,
  smap: true,
}

/** A desktop that has INVPCID without PCIDs. */
export const VERMEER: CpuModel = {
  ...ZEN,
  name: 'vermeer',
  product: 'Ryzen 5000 (Vermeer)',
  year: 2020,
  family: 25,
  model: 33,
  invpcid: true,
  pku: true,
}

/** AMD's first with PCIDs. */
export const ZEN3: CpuModel = {
  ...VERMEER,
  name: 'zen3',
  product: 'EPYC 7003 (Milan)',
  year: 2021,
  model: 1,
  pcid: true,
}

/** AMD's first with 5-level paging. */
export const ZEN4: CpuModel = {
  ...ZEN3,
  name: 'zen4',
  product: 'EPYC 9004 (Genoa)',
  year: 2022,
  model: 17,
  maxPhysicalAddressBits: 52,
  la57: true,
}

/** AMD's family 1Ah. */
export const ZEN5: CpuModel = {
  ...ZEN4,
  name: 'zen5',
  product: 'EPYC 9005 (Turin)',
  year: 2024,
  family: 26,
  model: 2,
}

/**
 * What QEMU 7.2 emulates without KVM as `-cpu max` (target/i386/cpu.c, TCG_*_FEATURES and TCG_PHYS_ADDR_BITS). It calls itself an AMD processor, but
 * ignores bit 8 of a PML4 entry as Intel's do.
 */
export const QEMU_TCG: CpuModel = {
  ...CORE2,
  name: 'qemu-tcg',
  product: 'QEMU TCG CPU version 2.5+',
  year: 2022,
  family: 15,
  model: 107,
  vendor: 'amd',
  maxPhysicalAddressBits: 40,
  pages1G: true,
  smep: true,
  smap: true,
  la57: true,
  pku: true,
  pks: true,
}

/** Processors from 2006 to today, by name, in the order they came out. */
export const CPU_MODELS: Readonly<Record<CpuModelName, CpuModel>> = {
  core2: CORE2,
  k8: K8,
  k10: K10,
  nehalem: NEHALEM,
  'nehalem-ex': NEHALEM_EX,
  westmere: WESTMERE,
  bulldozer: BULLDOZER,
  'sandy-bridge': SANDY_BRIDGE,
  'ivy-bridge': IVY_BRIDGE,
  silvermont: SILVERMONT,
  haswell: HASWELL,
  skylake: SKYLAKE,
  broadwell: BROADWELL,
  zen: ZEN,
  'skylake-sp': SKYLAKE_SP,
  vermeer: VERMEER,
  zen3: ZEN3,
  'ice-lake-sp': ICE_LAKE_SP,
  zen4: ZEN4,
  'qemu-tcg': QEMU_TCG,
  'sapphire-rapids': SAPPHIRE_RAPIDS,
  'lunar-lake': LUNAR_LAKE,
  'arrow-lake': ARROW_LAKE,
  zen5: ZEN5,
}
