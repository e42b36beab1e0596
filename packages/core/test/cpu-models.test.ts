import { expect, test } from 'vitest'
import {
  SAPPHIRE_RAPIDS,
  type CpuFeatures,
  CPU_MODELS,
  type CpuModel,
  type CpuModelName,
  type Cpu,
  Cr4,
  Efer,
  GeneralProtection,
  Machine,
} from '../src/index.ts'

/**
 * What CPUID says on a processor of each model, from the dumps of InstLatx64: 01H:EAX, ECX and EDX, 07H:EBX and ECX, 07H.1:EAX, 80000001H:EDX, 80000008H:EAX. QEMU has
 * none there.
 */
const CPUID: Readonly<Record<Exclude<CpuModelName, 'qemu-tcg'>, readonly number[]>> = {
  core2: [0x6f4, 0x4_e3bd, 0xbfeb_fbff, 0, 0, 0, 0x2010_0000, 0x3024],
  k8: [0x4_0f12, 0x2001, 0x178b_fbff, 0, 0, 0, 0xebd3_fbff, 0x3028],
  k10: [0x10_0f2a, 0x80_2009, 0x178b_fbff, 0, 0, 0, 0xefd3_fbff, 0x3030],
  nehalem: [0x1_06a2, 0xbc_e3bd, 0xbfeb_fbff, 0, 0, 0, 0x2810_0000, 0x3028],
  'nehalem-ex': [0x2_06e6, 0x80b8_6381, 0xbfcb_fbff, 0, 0, 0, 0x2810_0800, 0x302c],
  westmere: [0x2_06c1, 0x29e_e3ff, 0xbfeb_fbff, 0, 0, 0, 0x2c10_0000, 0x3028],
  bulldozer: [0x60_0f12, 0x1e98_220b, 0x178b_fbff, 0, 0, 0, 0x2fd3_fbff, 0x3030],
  'sandy-bridge': [0x2_06d7, 0x1fbe_e3bf, 0xbfeb_fbff, 0, 0, 0, 0x2c10_0000, 0x302e],
  'ivy-bridge': [0x3_06e4, 0x7fbe_e3bf, 0xbfeb_fbff, 0x281, 0, 0, 0x2c10_0000, 0x302e],
  silvermont: [0x4_06d8, 0x43d8_e3bf, 0xbfeb_fbff, 0x2282, 0, 0, 0x2810_0000, 0x3024],
  haswell: [0x3_06f2, 0x7dfe_fbff, 0xbfeb_fbff, 0x3fbb, 0, 0, 0x2c10_0000, 0x302e],
  skylake: [0x5_06e3, 0x7ffa_fbbf, 0xbfeb_fbff, 0x29c_6fbf, 0, 0, 0x2c10_0800, 0x3027],
  broadwell: [0x4_06f1, 0x7ffe_fbbf, 0xbfeb_fbff, 0x21c_bfbb, 0, 0, 0x2c10_0000, 0x302e],
  zen: [0x80_0f12, 0x7ed8_320b, 0x178b_fbff, 0x209c_01a9, 0, 0, 0x2fd3_fbff, 0x3030],
  'skylake-sp': [0x5_0654, 0x7ffe_fbff, 0xbfeb_fbff, 0xd39f_fffb, 0x8, 0, 0x2c10_0800, 0x302e],
  vermeer: [0xa2_0f10, 0x7ed8_320b, 0x178b_fbff, 0x219c_97a9, 0x40_068c, 0, 0x2fd3_fbff, 0x3030],
  zen3: [0xa0_0f11, 0x7eda_320b, 0x178b_fbff, 0x219c_97a9, 0x40_068c, 0, 0x2fd3_fbff, 0x3030],
  'ice-lake-sp': [
    0x6_06a6, 0x7ffe_fbff, 0xbfeb_fbff, 0xf3bf_bfff, 0x4041_7f4e, 0, 0x2c10_0800, 0x392e,
  ],
  zen4: [0xa1_0f11, 0x7efa_320b, 0x178b_fbff, 0xf1bf_97a9, 0x41_5fce, 0x20, 0x2fd3_fbff, 0x3934],
  'sapphire-rapids': [
    0x8_06f8, 0x7ffe_fbff, 0xbfeb_fbff, 0xf3bf_bffb, 0xbb41_7fee, 0x1c30, 0x2c10_0000, 0x3934,
  ],
  'lunar-lake': [
    0xb_06d1, 0x7ffa_fbff, 0xbfeb_fbff, 0x239c_a7eb, 0x9940_27ac, 0x44c0_09d7, 0x2c10_0800, 0x302a,
  ],
  'arrow-lake': [
    0xc_0662, 0x7ffa_fbff, 0xbfeb_fbff, 0x239c_a7eb, 0x9940_27ac, 0x44c0_09d7, 0x2c10_0000, 0x302e,
  ],
  zen5: [0xb0_0f21, 0x7efa_320b, 0x178b_fbff, 0xf1bf_97ab, 0x1941_5fce, 0x30, 0x2fd3_fbff, 0x3934],
}

function bit(word: number | undefined, position: number): boolean {
  return ((word! >>> position) & 1) === 1
}

const models = Object.values(CPU_MODELS)
const hardware = models.filter((model) => model.name !== 'qemu-tcg')

test.each(Object.entries(CPUID))('%s has the features that its CPUID reports', (name, words) => {
  const [signature, ecx1, edx1, ebx7, ecx7, eax71, edxExtended, addressSizes] = words
  const family = (signature! >>> 8) & 0xf
  expect(CPU_MODELS[name as CpuModelName]).toMatchObject({
    family: family + (family === 0xf ? (signature! >>> 20) & 0xff : 0),
    model:
      ((signature! >>> 4) & 0xf) +
      ((signature! >>> 12) & 0xf0) * (family === 6 || family === 0xf ? 1 : 0),
    maxPhysicalAddressBits: addressSizes! & 0xff,
    longMode: bit(edxExtended, 29),
    pse: bit(edx1, 3),
    pse36: bit(edx1, 17),
    pae: bit(edx1, 6),
    pge: bit(edx1, 13),
    nx: bit(edxExtended, 20),
    pages1G: bit(edxExtended, 26),
    pcid: bit(ecx1, 17),
    invpcid: bit(ebx7, 10),
    smep: bit(ebx7, 7),
    smap: bit(ebx7, 20),
    la57: bit(ecx7, 16),
    pku: bit(ecx7, 3),
    pks: bit(ecx7, 31),
    lass: bit(eax71, 6),
  })
})

test('each model is found under its name', () => {
  expect(Object.entries(CPU_MODELS).map(([name, model]) => [name, model.name])).toEqual(
    Object.keys(CPU_MODELS).map((name) => [name, name]),
  )
})

test('models stand in the order of the years they came out, from 2006 on', () => {
  const years = models.map(({ year }) => year)
  expect(years).toEqual(years.toSorted((a, b) => a - b))
  expect(years[0]).toBe(2006)
})

test('no two models are the same family and model', () => {
  const signatures = models.map(({ vendor, family, model }) => `${vendor} ${family}/${model}`)
  expect(new Set(signatures).size).toBe(signatures.length)
})

const SERVERS: Readonly<Record<'Intel' | 'AMD', readonly CpuModelName[]>> = {
  Intel: [
    'core2',
    'nehalem',
    'westmere',
    'sandy-bridge',
    'ivy-bridge',
    'haswell',
    'broadwell',
    'skylake-sp',
    'ice-lake-sp',
    'sapphire-rapids',
  ],
  AMD: ['k8', 'k10', 'bulldozer', 'zen', 'zen3', 'zen4', 'zen5'],
}

test.each(Object.entries(SERVERS))('a server of %s keeps what its predecessor had', (_, line) => {
  const lost = line.slice(1).flatMap((name, index) => {
    const before = CPU_MODELS[line[index]!]
    const after = CPU_MODELS[name]
    return featuresOf(before).filter((feature) => !featuresOf(after).includes(feature))
  })
  expect(lost).toEqual([])
  const bits = line.map((name) => CPU_MODELS[name].maxPhysicalAddressBits)
  expect(bits).toEqual(bits.toSorted((a, b) => a - b))
})

/** Rules of the architecture and of history: who has the first has the second. */
const IMPLIED = [
  ['la57', 'longMode'],
  ['lass', 'smap'],
  ['pks', 'pku'],
  ['pku', 'smap'],
  ['smap', 'smep'],
  ['pcid', 'pages1G'],
  ['pages1G', 'longMode'],
  ['longMode', 'nx'],
  ['nx', 'pae'],
] as const

test.each(IMPLIED)('every model with %s has %s', (feature, implied) => {
  expect(models.filter((model) => model[feature] && !model[implied])).toEqual([])
})

test('only processors with 5-level paging have more than 48 physical address bits', () => {
  const wide = hardware.filter((model) => model.maxPhysicalAddressBits > 48)
  expect(wide.map(({ name }) => name)).toEqual(['zen4', 'sapphire-rapids', 'zen5'])
  expect(wide.filter((model) => !model.la57)).toEqual([])
})

test('bit 8 of a PML4 entry is reserved by AMD’s processors and no others', () => {
  expect(hardware.map((model) => model.nonLeafGlobalReserved)).toEqual(
    hardware.map(({ vendor }) => vendor === 'amd'),
  )
})

test('INVPCID came to a processor without PCIDs once', () => {
  const odd = models.filter((model) => model.invpcid && !model.pcid)
  expect(odd.map(({ name }) => name)).toEqual(['vermeer'])
})

test.each(models)('$name can switch on all that it has, and nothing else', (model) => {
  const machine = new Machine({ features: model, start: 'reset' })
  const cpu = machine.bootCpu
  const own = controlBits(model)
  cpu.writeCr4(Cr4.PAE)
  cpu.writeEfer(Efer.LME | Efer.NXE)
  cpu.writeCr4((own | Cr4.PAE) & ~Cr4.PCIDE)
  expect(cpu.cr4).toBe((own | Cr4.PAE) & ~Cr4.PCIDE)
  const lacking = CONTROL_BITS.filter(([, value]) => (own & value) === 0)
  const taken = lacking.filter(([, value]) => !isRefused(cpu, cpu.cr4 | value))
  expect(taken).toEqual([])
})

test('CR4.VMXE and CR4.SMXE are reserved, as no model has VMX or SMX', () => {
  const { bootCpu } = new Machine({ features: SAPPHIRE_RAPIDS })
  expect([1 << 13, 1 << 14].map((added) => isRefused(bootCpu, bootCpu.cr4 | added))).toEqual([
    true,
    true,
  ])
})

const CONTROL_BITS: readonly (readonly [keyof CpuFeatures, number])[] = [
  ['pse', Cr4.PSE],
  ['pge', Cr4.PGE],
  ['la57', Cr4.LA57],
  ['pcid', Cr4.PCIDE],
  ['smep', Cr4.SMEP],
  ['smap', Cr4.SMAP],
  ['pku', Cr4.PKE],
  ['pks', Cr4.PKS],
  ['lass', Cr4.LASS],
]

function controlBits(model: CpuFeatures): number {
  return CONTROL_BITS.reduce(
    (bits, [feature, value]) => bits | (model[feature] === true ? value : 0),
    0,
  )
}

/** The features that a model has and another may lack, not what it reserves. */
function featuresOf(model: CpuModel): string[] {
  return Object.entries(model)
    .filter(([name, value]) => value === true && name !== 'nonLeafGlobalReserved')
    .map(([name]) => name)
}

/** Whether a write to CR4 is #GP. */
function isRefused(cpu: Cpu, value: number): boolean {
  try {
    cpu.writeCr4(value)
    return false
  } catch (error) {
    if (error instanceof GeneralProtection) return true
    throw error
  }
}
