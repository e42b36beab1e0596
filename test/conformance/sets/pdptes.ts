import { type Cpu, Cr0, Cr4, Efer, GeneralProtection, PageFault } from '@trapdoor/core'

import type { ConformanceSet } from '../runner/conformance-set.ts'
import { PLAIN_STATE, type RegisterState, translationState } from '../oracle/register-state.ts'
import { reservedBits } from '../oracle/reserved-bits.ts'
import { NO_FAULT, Path } from '../oracle/translation.ts'
import { LOW_TABLES, PagingStructures } from '../trial/paging-structures.ts'
import { Processor } from '../trial/processor.ts'

/** An instruction that may load the PDPTE registers, with what is done before it. */
interface Loading {
  readonly name: string
  before?(cpu: Cpu): void
  write(cpu: Cpu): void
  /** SDM Vol. 3, 4.4.1: MOV to CR3; MOV to CR0 that modifies CD, NW or PG, and MOV to CR4 that modifies PAE, PGE, PSE or SMEP, where PAE paging is in use afterwards. */
  readonly loads: boolean
  /** The paging mode if the load is refused. */
  readonly refusedMode: 'PAE' | 'off' | '32-bit'
}

function cr4Toggle(name: string, bit: number, loads: boolean): Loading {
  return {
    name: `CR4.${name}`,
    write: (cpu) => cpu.writeCr4(cpu.cr4 ^ bit),
    loads,
    refusedMode: 'PAE',
  }
}

function cr0Toggle(name: string, bits: number, loads: boolean): Loading {
  return {
    name: `CR0.${name}`,
    write: (cpu) => cpu.writeCr0((cpu.cr0 ^ bits) >>> 0),
    loads,
    refusedMode: 'PAE',
  }
}

const LOADINGS: readonly Loading[] = [
  { name: 'nothing', write: () => {}, loads: false, refusedMode: 'PAE' },
  { name: 'CR3', write: (cpu) => cpu.writeCr3(cpu.cr3), loads: true, refusedMode: 'PAE' },
  cr4Toggle('PGE', Cr4.PGE, true),
  cr4Toggle('PSE', Cr4.PSE, true),
  cr4Toggle('SMEP', Cr4.SMEP, true),
  cr4Toggle('SMAP', Cr4.SMAP, false),
  cr4Toggle('PKE', Cr4.PKE, false),
  cr0Toggle('CD', Cr0.CD, true),
  cr0Toggle('CD and NW', Cr0.CD | Cr0.NW, true),
  cr0Toggle('WP', Cr0.WP, false),
  {
    name: 'EFER.NXE',
    write: (cpu) => cpu.writeEfer(cpu.efer ^ Efer.NXE),
    loads: false,
    refusedMode: 'PAE',
  },
  {
    name: 'CR0.PG after paging was off',
    before: (cpu) => cpu.writeCr0((cpu.cr0 & ~Cr0.PG) >>> 0),
    write: (cpu) => cpu.writeCr0((cpu.cr0 | Cr0.PG) >>> 0),
    loads: true,
    refusedMode: 'off',
  },
  {
    name: 'CR4.PAE after 32-bit paging',
    before: (cpu) => cpu.writeCr4(cpu.cr4 & ~Cr4.PAE),
    write: (cpu) => cpu.writeCr4(cpu.cr4 | Cr4.PAE),
    loads: true,
    refusedMode: '32-bit',
  },
]

const WIDTHS = [36, 46, 52]

function translate(cpu: Cpu, address: bigint): string {
  try {
    return `0x${cpu.translate(address, 'read').toString(16)}`
  } catch (error) {
    if (error instanceof PageFault) return `#PF error code ${error.errorCode}`
    throw error
  }
}

/** Each bit of each PDPTE of PAE paging, changed in memory, and what may make the processor look at it. */
export const PDPTES_SET: ConformanceSet = {
  name: 'pdptes',
  title:
    'PAE: 4 PDPTEs × each bit, present or not × 13 ways to load the registers or not × MAXPHYADDR',
  chunks: () => WIDTHS.length,
  run(chunk, _size, recorder, manuals) {
    const state: RegisterState = {
      ...PLAIN_STATE,
      structure: 'PAE',
      physicalAddressBits: WIDTHS[chunk]!,
      smep: false,
    }
    const oracle = manuals.translation(translationState(state))
    const reserved = reservedBits(oracle.state, 'PDPTE', false)
    for (let register = 0; register < 4; register++)
      for (const loading of LOADINGS)
        for (const present of [0, 1])
          for (let bit = 1; bit < 64; bit++) {
            const address = BigInt(register) << 30n
            const before = new Path()
            const processor = new Processor(state, PagingStructures.root('PAE', LOW_TABLES))
            const { cpu } = processor
            const structures = new PagingStructures(processor.machine.memory, 'PAE', LOW_TABLES)
            structures.select(0, Number(BigInt.asIntN(32, address)))
            before.set(0, structures.tableLow(0) | 1, 0)
            before.set(1, structures.tableLow(1) | 3, 0)
            before.set(2, 0x765_4003, 0)
            structures.place(before)
            cpu.writeCr3(cpu.cr3)
            // The registers hold `before`; memory gets `after`.
            const after = new Path()
            after.copy(before)
            const low = bit < 32 ? 1 << bit : 0
            const high = bit < 32 ? 0 : 1 << (bit - 32)
            after.set(0, (before.low[0]! & ~1) ^ low ^ present, before.high[0]! ^ high)
            structures.place(after)
            const refused =
              loading.loads &&
              present === 1 &&
              ((after.low[0]! & reserved.low) !== 0 || (after.high[0]! & reserved.high) !== 0)
            loading.before?.(cpu)
            let found = ''
            try {
              loading.write(cpu)
            } catch (error) {
              if (!(error instanceof GeneralProtection)) throw error
              found = '#GP '
            }
            const mode = refused ? loading.refusedMode : 'PAE'
            let expected = `${refused ? '#GP ' : ''}${mode}`
            found += cpu.mode.name
            if (mode === 'PAE') {
              const held = loading.loads && !refused ? after : before
              const astray = held === after && bit >= 12 && bit < state.physicalAddressBits
              const path = new Path()
              path.copy(held)
              if (astray) path.set(1, 0, 0)
              const code = oracle.predict(path, Number(BigInt.asIntN(32, address)), 0)
              expected +=
                code === NO_FAULT
                  ? ` 0x${(oracle.frame * 4096).toString(16)}`
                  : ` #PF error code ${code}`
              cpu.mmu.flushAll()
              found += ` ${translate(cpu, address)}`
            }
            recorder.compare(
              expected,
              found,
              () =>
                `MAXPHYADDR=${state.physicalAddressBits} PDPTE${register} with bit ${bit} turned, P=${present}, then ${loading.name}`,
            )
          }
  },
}
