import type { CpuFeatures } from './features.ts'

/** A server of the summer of 2010: Nehalem-EP, 40 physical bits, no 1 GiB pages, no SMEP (family 6, model 26). */
export const NEHALEM: CpuFeatures = {
  name: 'nehalem',
  vendor: 'intel',
  maxPhysicalAddressBits: 40,
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
  nonLeafGlobalReserved: false,
}

/** Broadwell-EP, 46 physical bits: 1 GiB pages, PCIDs, SMEP and SMAP (family 6, model 79). */
export const BROADWELL: CpuFeatures = {
  ...NEHALEM,
  name: 'broadwell',
  maxPhysicalAddressBits: 46,
  pages1G: true,
  pcid: true,
  invpcid: true,
  smep: true,
  smap: true,
}
