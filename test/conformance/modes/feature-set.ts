import { type Cpu, CpuException, type CpuFeatures, Cr0, Cr4, Efer, Machine } from '@trapdoor/core'

import type { ConformanceSet } from '../runner/conformance-set.ts'
import { PLAIN_STATE } from '../oracle/register-state.ts'
import { featuresOf } from '../trial/processor.ts'

type Feature =
  | 'longMode'
  | 'pse'
  | 'pae'
  | 'pge'
  | 'nx'
  | 'pcid'
  | 'invpcid'
  | 'smep'
  | 'smap'
  | 'la57'
  | 'pku'
  | 'pks'
  | 'lass'

const FEATURES: readonly Feature[] = [
  'longMode',
  'pse',
  'pae',
  'pge',
  'nx',
  'pcid',
  'invpcid',
  'smep',
  'smap',
  'la57',
  'pku',
  'pks',
  'lass',
]

/** The state in which an instruction is tried: after RESET with CR0.PE, or in 64-bit mode, with or without CR4.PKE or CR4.PCIDE. */
type Start = 'protected' | '64-bit' | '64-bit PCIDE'

/** An instruction that only some processors have, with the exception that the SDM gives for it, or none. */
interface FeatureUse {
  readonly name: string
  readonly only64?: boolean
  run(cpu: Cpu): void
  exception(has: (feature: Feature) => boolean, start: Start): '#GP' | '#UD' | undefined
}

/** SDM Vol. 2, MOV to CR4: a bit that the processor lacks is reserved. */
function cr4Bit(name: string, bit: number, feature: Feature): FeatureUse {
  return {
    name: `CR4.${name}`,
    run: (cpu) => cpu.writeCr4(cpu.cr4 | bit),
    exception: (has) => (has(feature) ? undefined : '#GP'),
  }
}

/**
 * SDM Vol. 2, INVPCID: #UD where it does not exist, #GP(0) for a context other than 0 without CR4.PCIDE or an address of type 0 that is not canonical, by as many bits as the processor has linear
 * addresses of, whatever CR4.LA57 is (Linux arch/x86/kvm/x86.h: is_noncanonical_invlpg_address()).
 */
function invpcid(type: 0 | 1 | 2 | 3, pcid: number, address: bigint): FeatureUse {
  return {
    name: `INVPCID type ${type}, PCID ${pcid}, 0x${address.toString(16)}`,
    only64: address >= NOT_IN_48_BITS,
    run: (cpu) => cpu.invpcid(type, pcid, address),
    exception: (has, start) => {
      if (!has('invpcid')) return '#UD'
      if (pcid > 0xfff) return '#GP'
      const named = type < 2
      if (named && pcid !== 0 && start !== '64-bit PCIDE') return '#GP'
      return type === 0 && address >= (has('la57') ? NOT_IN_57_BITS : NOT_IN_48_BITS)
        ? '#GP'
        : undefined
    },
  }
}

/** The first addresses of the lower half that are not canonical with 48 bits, and with 57. */
const NOT_IN_48_BITS = 1n << 47n
const NOT_IN_57_BITS = 1n << 56n

const USES: readonly FeatureUse[] = [
  cr4Bit('PSE', Cr4.PSE, 'pse'),
  cr4Bit('PAE', Cr4.PAE, 'pae'),
  cr4Bit('PGE', Cr4.PGE, 'pge'),
  cr4Bit('SMEP', Cr4.SMEP, 'smep'),
  cr4Bit('SMAP', Cr4.SMAP, 'smap'),
  cr4Bit('PKE', Cr4.PKE, 'pku'),
  cr4Bit('PKS', Cr4.PKS, 'pks'),
  cr4Bit('LASS', Cr4.LASS, 'lass'),
  {
    name: 'CR4.LA57',
    run: (cpu) => cpu.writeCr4(cpu.cr4 | Cr4.LA57),
    exception: (has, start) => (has('la57') && start === 'protected' ? undefined : '#GP'),
  },
  {
    name: 'CR4.PCIDE',
    run: (cpu) => cpu.writeCr4(cpu.cr4 | Cr4.PCIDE),
    exception: (has, start) => (has('pcid') && start !== 'protected' ? undefined : '#GP'),
  },
  {
    name: 'EFER.NXE',
    run: (cpu) => cpu.writeEfer(cpu.efer | Efer.NXE),
    exception: (has) => (has('nx') ? undefined : '#GP'),
  },
  {
    name: 'EFER.LME',
    run: (cpu) => cpu.writeEfer(cpu.efer | Efer.LME),
    exception: (has) => (has('longMode') ? undefined : '#GP'),
  },
  // WRPKRU is #UD while CR4.PKE is clear (Vol. 2).
  { name: 'WRPKRU without CR4.PKE', run: (cpu) => cpu.writePkru(0), exception: () => '#UD' },
  {
    name: 'WRPKRU with CR4.PKE',
    run: (cpu) => {
      cpu.writeCr4(cpu.cr4 | Cr4.PKE)
      cpu.writePkru(0)
    },
    exception: (has) => (has('pku') ? undefined : '#GP'),
  },
  {
    name: 'WRMSR to IA32_PKRS',
    run: (cpu) => cpu.writePkrs(0),
    exception: (has) => (has('pks') ? undefined : '#GP'),
  },
  invpcid(0, 0, 0x1000n),
  invpcid(0, 3, 0x1000n),
  invpcid(0, 0, NOT_IN_48_BITS),
  invpcid(0, 0, NOT_IN_57_BITS),
  invpcid(1, 0, 0n),
  invpcid(1, 3, NOT_IN_57_BITS),
  invpcid(1, 4096, 0n),
  invpcid(2, 0, NOT_IN_57_BITS),
  invpcid(3, 0, 0n),
]

const STARTS: readonly Start[] = ['protected', '64-bit', '64-bit PCIDE']

function machineWith(features: CpuFeatures, start: Start): Machine {
  const machine = new Machine({ features, start: start === 'protected' ? 'reset' : 'long-mode' })
  const { bootCpu } = machine
  if (start === 'protected') bootCpu.writeCr0(bootCpu.cr0 | Cr0.PE)
  if (start === '64-bit PCIDE') bootCpu.writeCr4(bootCpu.cr4 | Cr4.PCIDE)
  return machine
}

/** What a processor raises for each thing that it lacks. */
export const FEATURE_SET: ConformanceSet = {
  name: 'features',
  title: `${USES.length} uses of features × each of ${FEATURES.length} missing, or none × protected mode, 64-bit mode, PCIDE: #GP, #UD`,
  chunks: () => 1,
  run(_chunk, _size, recorder) {
    for (const missing of [undefined, ...FEATURES])
      for (const start of STARTS) {
        // What leads to the state has to be there.
        if (start !== 'protected' && (missing === 'longMode' || missing === 'pae')) continue
        if (start === '64-bit PCIDE' && missing === 'pcid') continue
        const features = featuresOf(PLAIN_STATE, missing === undefined ? {} : { [missing]: false })
        for (const use of USES) {
          // Outside 64-bit mode there is no such address.
          if (use.only64 === true && start === 'protected') continue
          const { bootCpu } = machineWith(features, start)
          let found: string | undefined
          try {
            use.run(bootCpu)
          } catch (error) {
            if (!(error instanceof CpuException)) throw error
            found = error.mnemonic
          }
          recorder.compare(
            String(use.exception((feature) => feature !== missing, start)),
            String(found),
            () =>
              `${use.name} in ${start} mode${missing === undefined ? '' : ` without ${missing}`}`,
          )
        }
      }
  },
}
