import {
  ApicBase,
  type CpuFeatures,
  CPU_MODELS,
  Cr4,
  Gpr,
  IVY_BRIDGE,
  LOCAL_APIC_ADDRESS,
  NEHALEM,
  PAT_LINUX,
  SANDY_BRIDGE,
  Segment,
  SKYLAKE_SP,
  Vector,
  WESTMERE,
  ZEN,
  ZEN3,
  ZEN4,
} from '@trapdoor/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Computer, computer, DATA, STACK_TOP } from './computer.ts'

const HLT = 0xf4

function word(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24]
}

/** MOV ECX, index; RDMSR; HLT. */
function readMsr(target: Computer, index: number): bigint | string {
  target.place(0xb9, ...word(index), 0x0f, 0x32, HLT)
  const vector = target.run()
  if (vector !== undefined) return `vector ${vector}`
  return (target.cpu.general64[Gpr.RDX]! << 32n) | target.cpu.general64[Gpr.RAX]!
}

/** MOV ECX, index; MOV EAX, EDX; WRMSR; HLT. Returns whether it was refused. */
function refusesMsr(target: Computer, index: number, value: bigint): boolean {
  const low = Number(BigInt.asUintN(32, value))
  const high = Number(BigInt.asUintN(32, value >> 32n))
  target.place(0xb9, ...word(index), 0xb8, ...word(low), 0xba, ...word(high), 0x0f, 0x30, HLT)
  return target.run() === Vector.GP
}

/** MOV EAX, leaf; MOV ECX, subleaf; CPUID; HLT. */
function cpuid(target: Computer, leaf: number, subleaf = 0): number[] {
  target.place(0xb8, ...word(leaf), 0xb9, ...word(subleaf), 0x0f, 0xa2, HLT)
  target.run()
  return [Gpr.RAX, Gpr.RBX, Gpr.RCX, Gpr.RDX].map((register) =>
    Number(target.cpu.general64[register]),
  )
}

function textOf(...words: readonly number[]): string {
  const bytes = words.flatMap((each) => word(each))
  return String.fromCharCode(...bytes).replaceAll('\0', '')
}

function bit(value: number, at: number): boolean {
  return ((value >>> at) & 1) === 1
}

describe('CPUID', () => {
  test('names the vendor, the family and the model', () => {
    for (const [features, vendor, signature] of [
      [ZEN3, 'AuthenticAMD', 0x00a0_0f10],
      [SKYLAKE_SP, 'GenuineIntel', 0x0005_0650],
    ] as const) {
      const target = computer('64-bit', features)
      const [, ebx, ecx, edx] = cpuid(target, 0)
      expect(textOf(ebx!, edx!, ecx!)).toBe(vendor)
      expect(cpuid(target, 1)[0]).toBe(signature)
    }
    const brand = [2, 3, 4].flatMap((leaf) => cpuid(computer('64-bit'), 0x8000_0000 + leaf))
    expect(textOf(...brand)).toBe(ZEN3.product)
  })

  test('tells of every model what core’s MMU does for it', () => {
    fc.assert(
      fc.property(fc.constantFrom(...Object.values(CPU_MODELS)), (model) => {
        const target = computer('64-bit', model)
        const [, , ecx1, edx1] = cpuid(target, 1)
        const [, ebx7, ecx7] = cpuid(target, 7)
        const edx81 = cpuid(target, 0x8000_0001)[3]!
        const address = cpuid(target, 0x8000_0008)[0]!
        expect({
          pse: bit(edx1!, 3),
          pae: bit(edx1!, 6),
          pge: bit(edx1!, 13),
          pse36: bit(edx1!, 17),
          pcid: bit(ecx1!, 17),
          smep: bit(ebx7!, 7),
          invpcid: bit(ebx7!, 10),
          smap: bit(ebx7!, 20),
          pku: bit(ecx7!, 3),
          la57: bit(ecx7!, 16),
          pks: bit(ecx7!, 31),
          nx: bit(edx81, 20),
          pages1G: bit(edx81, 26),
          longMode: bit(edx81, 29),
          maxPhysicalAddressBits: address & 0xff,
        }).toMatchObject(featuresOf(model))
      }),
    )
  })

  test('says OSPKE where CR4.PKE is set, and APIC where it is enabled', () => {
    const target = computer('64-bit')
    expect([(cpuid(target, 7)[2]! >>> 4) & 1, (cpuid(target, 1)[3]! >>> 9) & 1]).toEqual([0, 1])
    target.cpu.writeCr4(target.cpu.cr4 | Cr4.PKE)
    target.apic.writeApicBase(BigInt(LOCAL_APIC_ADDRESS + ApicBase.BootProcessor))
    expect([(cpuid(target, 7)[2]! >>> 4) & 1, (cpuid(target, 1)[3]! >>> 9) & 1]).toEqual([1, 0])
  })

  test('gives zeros for what is not there', () => {
    const target = computer('64-bit')
    expect([cpuid(target, 0x4000_0000), cpuid(target, 7, 9)]).toEqual([
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ])
  })
})

function featuresOf(model: CpuFeatures): Partial<CpuFeatures> {
  const { pse, pae, pge, pse36, pcid, smep, invpcid, smap, pku, la57, pks, nx, pages1G } = model
  const { longMode, maxPhysicalAddressBits } = model
  return {
    pse,
    pae,
    pge,
    pse36,
    pcid,
    smep,
    invpcid,
    smap,
    pku,
    la57,
    pks,
    nx,
    pages1G,
    longMode,
    maxPhysicalAddressBits,
  }
}

describe('model-specific registers', () => {
  test.each<[string, number, bigint]>([
    ['STAR', 0xc000_0081, 0x1234_5678_9abc_def0n],
    ['LSTAR', 0xc000_0082, 0xffff_8000_0000_1000n],
    ['FMASK', 0xc000_0084, 0x4_7700n],
    ['FS.base', 0xc000_0100, 0x7fff_0000_1000n],
    ['GS.base', 0xc000_0101, 0xffff_ffff_8000_0000n],
    ['KERNEL_GS_BASE', 0xc000_0102, 0x1000n],
    ['TSC_AUX', 0xc000_0103, 7n],
    ['SYSENTER_CS', 0x174, 0x10n],
    ['SYSENTER_EIP', 0x176, 0xffff_8000_0000_0000n],
    ['PerfCtr0', 0xc001_0004, 0xffff_ffff_ffffn],
  ])('%s reads as it was written', (_, index, value) => {
    const target = computer('64-bit')
    expect(refusesMsr(target, index, value)).toBe(false)
    expect(readMsr(target, index)).toBe(value)
  })

  test('an address in one has as many bits as the CPU has, whatever CR4.LA57 is', () => {
    const address = 1n << 55n
    expect(refusesMsr(computer('64-bit', ZEN4), 0xc000_0100, address)).toBe(false)
    expect(refusesMsr(computer('64-bit', ZEN3), 0xc000_0100, address)).toBe(true)
    expect(refusesMsr(computer('64-bit', ZEN4), 0xc000_0100, address << 1n)).toBe(true)
  })

  test.each<[string, number, bigint]>([
    ['LSTAR with an address that is not canonical', 0xc000_0082, 1n << 47n],
    ['FMASK with more than 32 bits', 0xc000_0084, 1n << 32n],
    ['PAT with a reserved type', 0x277, 0x02n],
    ['EFER with a bit that it has not', 0xc000_0080, 0x8000n],
    ['PKRS on a CPU without it', 0x6e1, 0n],
    ['an x2APIC register while it is an xAPIC', 0x80b, 0n],
    ['a register that nobody has', 0x1234, 0n],
    ['IA32_APIC_BASE with a reserved bit', 0x1b, 1n],
  ])('%s is #GP', (_, index, value) => {
    expect(refusesMsr(computer('64-bit'), index, value)).toBe(true)
  })

  test('a register that nobody has is #GP when it is read', () => {
    expect(readMsr(computer('64-bit'), 0x1234)).toBe('vector 13')
  })

  test('PAT and EFER are the CPU’s', () => {
    const target = computer('64-bit')
    expect(refusesMsr(target, 0x277, 0x0007_0106_0007_0106n)).toBe(false)
    expect(target.cpu.pat).toEqual(PAT_LINUX)
    expect(readMsr(target, 0xc000_0080)).toBe(BigInt(target.cpu.efer))
  })

  test('a performance counter that is to count stops the run', () => {
    expect(() => refusesMsr(computer('64-bit'), 0xc001_0000, 0x43_0076n)).toThrow(
      expect.objectContaining({ code: 'CORE_NOT_MODELLED' }),
    )
  })

  test('the time-stamp counter counts instructions, from what it was set to', () => {
    const target = computer('64-bit')
    expect(refusesMsr(target, 0x10, 0x1_0000_0000n)).toBe(false)
    // RDTSC; MOV ESI, EAX; NOP; NOP; RDTSC; SUB EAX, ESI; HLT
    target.place(0x0f, 0x31, 0x89, 0xc6, 0x90, 0x90, 0x0f, 0x31, 0x29, 0xf0, HLT)
    target.run()
    expect([target.cpu.general64[Gpr.RDX], target.cpu.general64[Gpr.RAX]]).toEqual([1n, 4n])
  })
})

/** Loads FS with a descriptor at 18h, and carries out an access through it: MOV AX, 18h; MOV FS, AX; then `access`. */
function through(
  [limit, access, flags]: readonly [number, number, number],
  ...code: readonly number[]
): Computer & { readonly vector: number | undefined } {
  const target = computer('protected')
  const { memory } = target.machine
  memory.write32(0x1018, ((DATA & 0xffff) << 16) | (limit & 0xffff))
  memory.write32(0x101c, (flags << 20) | (access << 8) | (DATA >>> 16))
  target.place(0x66, 0xb8, 0x18, 0, 0x8e, 0xe0, ...code, HLT)
  return { ...target, vector: target.run() }
}

describe('segments outside of 64-bit mode', () => {
  /** MOV EDX, FS:[offset] and MOV FS:[offset], EDX. */
  const load = (offset: number): number[] => [0x64, 0x8b, 0x15, ...word(offset)]
  const store = (offset: number): number[] => [0x64, 0x89, 0x15, ...word(offset)]

  test.each<[string, readonly [number, number, number], number[], number | undefined]>([
    ['a load up to the limit', [0xff, 0x93, 4], load(0xfc), undefined],
    ['a load beyond the limit', [0xff, 0x93, 4], load(0xfd), Vector.GP],
    ['a load above the limit of data that expands down', [0xff, 0x97, 4], load(0x100), undefined],
    ['a load below the limit of data that expands down', [0xff, 0x97, 4], load(0xff), Vector.GP],
    ['a store to data that is read-only', [0xff, 0x91, 4], store(0), Vector.GP],
    ['a load from data that is read-only', [0xff, 0x91, 4], load(0), undefined],
    ['a store to code', [0xff, 0x9b, 4], store(0), Vector.GP],
    ['a load from readable code', [0xff, 0x9b, 4], load(0), undefined],
    ['LEA, which is no access', [0xff, 0x93, 4], [0x64, 0x8d, 0x15, ...word(0x5000)], undefined],
  ])('%s', (_, descriptor, code, vector) => {
    expect(through(descriptor, ...code).vector).toBe(vector)
  })

  test('a load goes to the base of its segment', () => {
    const target = computer('protected')
    target.machine.memory.write32(DATA + 0x10, 0x1234_5678)
    target.machine.memory.write32(0x1018, ((DATA & 0xffff) << 16) | 0xff)
    target.machine.memory.write32(0x101c, 0x0040_9300 | (DATA >>> 16))
    target.place(0x66, 0xb8, 0x18, 0, 0x8e, 0xe0, ...load(0x10), HLT)
    target.run()
    expect(target.cpu.general64[Gpr.RDX]).toBe(0x1234_5678n)
  })

  test('an access through a null selector is #GP', () => {
    const target = computer('protected')
    // XOR EAX, EDX; MOV DS, EAX; MOV EDX, [DATA]
    target.place(0x31, 0xc0, 0x8e, 0xd8, 0x8b, 0x15, ...word(DATA), HLT)
    expect(target.run()).toBe(Vector.GP)
  })

  test('a push beyond the limit of the stack is #SS', () => {
    const target = computer('protected')
    // A stack of 256 bytes from DATA on, whose handler cannot have a frame on it: the fault itself is looked at.
    target.cpu.loadSegment(Segment.SS, {
      selector: 0x18,
      base: BigInt(DATA),
      limit: 0xff,
      rights: 0x40_9300,
    })
    target.cpu.rsp = 2n
    target.place(0x50)
    expect(() => target.run()).toThrow(/#SS/)
  })
})

describe('debug registers', () => {
  test('keep what they hold; DR6 and DR7 have bits that are always set', () => {
    const target = computer('64-bit')
    // MOV EAX, 12345678h; MOV DR3, RAX; MOV RDX, DR3; XOR EAX, EAX; MOV DR6, RAX; MOV DR7, RAX; MOV RSI, DR6; MOV RDI, DR7
    target.place(
      0xb8,
      ...word(0x1234_5678),
      ...Buffer.from(
        '0f23d8 0f21da 31c0 0f23f0 0f23f8 0f21f6 0f21ff f4'.replaceAll(' ', ''),
        'hex',
      ),
    )
    expect(target.run()).toBeUndefined()
    expect([Gpr.RDX, Gpr.RSI, Gpr.RDI].map((register) => target.cpu.general64[register])).toEqual([
      0x1234_5678n,
      0xffff_0ff0n,
      0x400n,
    ])
  })

  test('a breakpoint that is switched on stops the run, as it would not break', () => {
    const target = computer('64-bit')
    target.place(0xb8, ...word(1), 0x0f, 0x23, 0xf8)
    expect(() => target.run()).toThrow(expect.objectContaining({ code: 'CPU_MISSING_INSTRUCTION' }))
  })
})

describe('INVPCID and PCIDs', () => {
  test('take a descriptor in memory; a type that there is not is #GP', () => {
    for (const [type, vector] of [
      [2, undefined],
      [4, Vector.GP],
    ] as const) {
      const target = computer('64-bit', ZEN4)
      // MOV EAX, type; INVPCID RAX, [DATA]
      target.place(0xb8, ...word(type), 0x66, 0x0f, 0x38, 0x82, 0x04, 0x25, ...word(DATA), HLT)
      expect(target.run()).toBe(vector)
    }
  })
})

/** Runs instructions, and HLT; the vector that it ends in. */
function vectorOf(target: Computer, code: string): number | undefined {
  target.place(...Buffer.from(code, 'hex'), HLT)
  return target.run()
}

function withXsave(): Computer {
  const target = computer('64-bit')
  target.cpu.writeCr4(target.cpu.cr4 | Cr4.OSXSAVE)
  return target
}

describe('instructions that CPUID decides about', () => {
  test.each([
    ['FSGSBASE', 16, NEHALEM, IVY_BRIDGE],
    ['UMIP', 11, ZEN, ZEN3],
    ['OSXSAVE', 18, WESTMERE, SANDY_BRIDGE],
  ])('CR4.%s is reserved on processors without it', (_, bitNumber, without, having) => {
    for (const [features, vector] of [
      [without, Vector.GP],
      [having, undefined],
    ] as const) {
      // MOV RAX, CR4; BTS EAX, bit; MOV CR4, RAX
      const code = `0f20e00fbae8${bitNumber.toString(16).padStart(2, '0')}0f22e0`
      expect(vectorOf(computer('64-bit', features), code)).toBe(vector)
    }
  })

  test.each([
    ['ZEN3', ZEN3, 47, Vector.GP],
    ['ZEN4', ZEN4, 47, undefined],
    ['ZEN4', ZEN4, 56, Vector.GP],
  ])('INVPCID of an address looks at as many bits as %s has (%#)', (_, features, shift, vector) => {
    const target = computer('64-bit', features)
    target.cpu.write64(BigInt(DATA + 8), 1n << BigInt(shift))
    // XOR ECX, ECX; MOV EAX, DATA; INVPCID RCX, [RAX]
    const code = Buffer.from([0x31, 0xc9, 0xb8, ...word(DATA), 0x66, 0x0f, 0x38, 0x82, 0x08])
    expect(vectorOf(target, code.toString('hex'))).toBe(vector)
  })

  test('SALC makes a byte of CF, and is no instruction of 64-bit mode', () => {
    for (const [carry, al] of [
      ['f8', 0],
      ['f9', 0xff],
    ] as const) {
      const target = computer('protected')
      expect(vectorOf(target, `${carry}d6`)).toBeUndefined()
      expect(Number(target.cpu.general64[Gpr.RAX]) & 0xff).toBe(al)
    }
    expect(vectorOf(computer('64-bit'), 'd6')).toBe(Vector.UD)
  })

  test('0F 0D with a register is a NOP on Intel’s processors, and #UD on AMD’s', () => {
    expect(vectorOf(computer('64-bit', SKYLAKE_SP), '0f0dc8')).toBeUndefined()
    expect(vectorOf(computer('64-bit', ZEN3), '0f0dc8')).toBe(Vector.UD)
  })

  test('a far pointer with REX.W has an offset of 8 bytes on Intel’s processors, and of 4 on AMD’s', () => {
    for (const [features, offset] of [
      [SKYLAKE_SP, 8],
      [ZEN3, 4],
    ] as const) {
      const target = computer('64-bit', features)
      const { cpu } = target
      const { cs } = cpu
      cpu.write64(BigInt(DATA), 0n)
      cpu.write64(BigInt(DATA + 8), 0n)
      cpu.write16(BigInt(DATA + offset), cs)
      cpu.write16(BigInt(DATA + 12 - offset), 0)
      // MOV EAX, DATA; LEA RCX, [RIP + 5]; MOV [RAX], ECX; JMP FAR [RAX], with REX.W
      target.place(
        0xb8,
        ...word(DATA),
        0x48,
        0x8d,
        0x0d,
        5,
        0,
        0,
        0,
        0x89,
        0x08,
        0x48,
        0xff,
        0x28,
        HLT,
      )
      expect(target.run()).toBeUndefined()
    }
  })

  test('EMMS sets the top of the x87 stack, but on AMD’s processors before Zen 4', () => {
    for (const [features, top] of [
      [SKYLAKE_SP, 0],
      [ZEN3, 7],
      [ZEN4, 0],
    ] as const) {
      // FLD1; EMMS; FNSTSW AX
      const target = computer('64-bit', features)
      expect(vectorOf(target, 'd9e80f77dfe0')).toBeUndefined()
      expect((Number(target.cpu.general64[Gpr.RAX]) >>> 11) & 7).toBe(top)
    }
  })

  test.each([
    ['RDPRU', '0f01fd'],
    ['SKINIT EAX', '0f01de'],
    ['STGI', '0f01dc'],
    ['VMRUN RAX', '0f01d8'],
    ['VMXOFF', '0f01c4'],
    ['VMREAD RAX, RCX', '0f78c8'],
    ['GETSEC', '0f37'],
    ['RSM', '0faa'],
    ['MONITOR', '0f01c8'],
  ])('%s is #UD, at any level', (_, code) => {
    expect(vectorOf(computer('64-bit'), code)).toBe(Vector.UD)
    expect(vectorOf(computer('protected'), code)).toBe(Vector.UD)
  })

  test('RDSSPQ and RDSSPD are NOPs without shadow stacks', () => {
    const target = computer('64-bit')
    target.cpu.general64[Gpr.RAX] = 0x1234_5678_9abc_def0n
    expect(vectorOf(target, 'f3480f1ec8f30f1ec8')).toBeUndefined()
    expect(target.cpu.general64[Gpr.RAX]).toBe(0x1234_5678_9abc_def0n)
  })

  test('RDPID gives IA32_TSC_AUX where CPUID tells of it, and is #UD elsewhere', () => {
    const target = computer('64-bit', ZEN4)
    target.cpu.msrs = { ...target.cpu.msrs, tscAux: 0x8765_4321n }
    target.cpu.general64[Gpr.RDX] = -1n
    expect(bit(cpuid(target, 7)[2]!, 22)).toBe(true)
    expect(vectorOf(target, 'f30fc7fa')).toBeUndefined()
    expect(target.cpu.general64[Gpr.RDX]).toBe(0x8765_4321n)
    const older = computer('64-bit', SKYLAKE_SP)
    expect(bit(cpuid(older, 7)[2]!, 22)).toBe(false)
    expect(vectorOf(older, 'f30fc7fa')).toBe(Vector.UD)
  })

  test('XGETBV and XSETBV are there with CR4.OSXSAVE, which CPUID repeats', () => {
    const target = computer('64-bit')
    expect([bit(cpuid(target, 1)[2]!, 26), bit(cpuid(target, 1)[2]!, 27)]).toEqual([true, false])
    expect(vectorOf(target, '31c90f01d0')).toBe(Vector.UD)
    expect(bit(cpuid(withXsave(), 1)[2]!, 27)).toBe(true)
    expect(cpuid(withXsave(), 0xd)).toEqual([3, 576, 576, 0])
    expect(cpuid(withXsave(), 0xd, 1)).toEqual([6, 576, 0, 0])
    const written = withXsave()
    // XOR ECX, ECX; XOR EDX, EDX; MOV EAX, 3; XSETBV; XOR EAX, EAX; XGETBV
    expect(vectorOf(written, '31c931d2b8030000000f01d131c00f01d0')).toBeUndefined()
    expect(written.cpu.general64[Gpr.RAX]).toBe(3n)
    for (const [index, value] of [
      [0, 2],
      [0, 7],
      [1, 3],
    ] as const) {
      const refused = withXsave()
      refused.place(0xb9, ...word(index), 0x31, 0xd2, 0xb8, ...word(value), 0x0f, 0x01, 0xd1, HLT)
      expect(refused.run()).toBe(Vector.GP)
    }
    // MOV ECX, 2; XGETBV
    expect(vectorOf(withXsave(), 'b9020000000f01d0')).toBe(Vector.GP)
  })

  test('an environment of 16 bits holds addresses in real-address mode, offsets in protected mode', () => {
    const target = computer('protected')
    // FNINIT; FLD1; FNSTENV [DATA] with a 16-bit operand.
    target.place(0xdb, 0xe3, 0xd9, 0xe8, 0x66, 0xd9, 0x35, ...word(DATA), HLT)
    expect(target.run()).toBeUndefined()
    const words = Array.from({ length: 7 }, (_, at) => target.machine.memory.read16(DATA + at * 2))
    expect(words).toEqual([0x37f, 0x3800, 0x3fff, 0x0002, 0, 0, 0])
  })
})

test('CR8 without an APIC is something that is missing', () => {
  const target = computer('64-bit')
  target.cpu.localApic = undefined
  target.place(0x44, 0x0f, 0x20, 0xc0)
  expect(() => target.run()).toThrow(expect.objectContaining({ code: 'CPU_MISSING_INSTRUCTION' }))
})

test('what needs the supervisor is #GP for the user, whatever it is', () => {
  const instructions: readonly (readonly number[])[] = [
    [0x0f, 0x20, 0xc0],
    [0x0f, 0x22, 0xc0],
    [0x0f, 0x21, 0xf0],
    [0x0f, 0x23, 0xf8],
    [0x0f, 0x30],
    [0x0f, 0x32],
    [0x0f, 0x06],
    [0x0f, 0x08],
    [0x0f, 0x09],
    [0x0f, 0x01, 0x38],
    [0x0f, 0x01, 0x10],
    [0x0f, 0x01, 0x18],
    [0x0f, 0x00, 0xd0],
    [0x0f, 0x00, 0xd8],
    [0x0f, 0x01, 0xf0],
    [HLT],
  ]
  for (const bytes of instructions) {
    const target = computer('64-bit')
    target.cpu.taskRegister = { selector: 0x20, base: BigInt(DATA + 0x800), limit: 0x67 }
    target.machine.memory.write64(DATA + 0x804, BigInt(STACK_TOP - 0x100))
    target.cpu.cpl = 3
    target.place(...bytes)
    expect(target.run()).toBe(Vector.GP)
    expect(target.cpu.cpl).toBe(0)
  }
})
