import { type Cpu, CpuException, Cr4, PageFault } from '@trapdoor/core'

import type { ConformanceSet } from '../runner/conformance-set.ts'
import { BOTH, stateProduct } from '../trial/control-product.ts'
import { verbOf } from '../trial/core-access.ts'
import type { Manuals } from '../runner/manuals.ts'
import { ACCESSES, AccessBit } from '../oracle/access-rights.ts'
import { PLAIN_STATE, type RegisterState, translationState } from '../oracle/register-state.ts'
import { NO_FAULT, Path } from '../oracle/translation.ts'
import { LOW_TABLES, PagingStructures } from '../trial/paging-structures.ts'
import { Processor } from '../trial/processor.ts'
import { describeAccess, describeState } from '../trial/wording.ts'

/** Both halves of the address space, their ends, and what lies between, for 48 and for 57 bits. */
const ADDRESSES: readonly bigint[] = [
  0x0000_0000_0040_0000n,
  0x0000_7fff_ffff_f000n,
  0x0000_8000_0000_0000n,
  0x00ff_ffff_ffff_f000n,
  0x0100_0000_0000_0000n,
  0x7fff_ffff_ffff_f000n,
  0x8000_0000_0000_0000n,
  0xfeff_ffff_ffff_f000n,
  0xff00_0000_0000_0000n,
  0xffff_7fff_ffff_f000n,
  0xffff_8000_0000_0000n,
  0xffff_ffff_ffff_f000n,
]

/** Flags of the page: user, supervisor, none. */
const PAGES = [7, 3, 0]

/** The registers of one combination. */
interface Setting {
  readonly state: RegisterState
  readonly lass: boolean
  /** CS.L. */
  readonly longCode: boolean
}

/** An access of one combination. */
interface LinearAccess {
  readonly address: bigint
  readonly access: number
  readonly cpl: 0 | 3
  readonly stack: boolean
}

function settings(structure: '4-level' | '5-level'): Setting[] {
  const states = stateProduct({ ...PLAIN_STATE, structure }, { smap: BOTH, ac: BOTH, smep: BOTH })
  return states.flatMap((state) =>
    BOTH.flatMap((lass) => BOTH.map((longCode) => ({ state, lass, longCode }))),
  )
}

function accessesTo(address: bigint): LinearAccess[] {
  return ACCESSES.flatMap((access) => {
    const fetch = (access & AccessBit.Fetch) !== 0
    const implicit = (access & AccessBit.Implicit) !== 0
    const own = (access & AccessBit.User) === 0 ? 0 : 3
    // The processor's own accesses are the supervisor's at any privilege level.
    const levels: readonly (0 | 3)[] = implicit ? [0, 3] : [own]
    const stacks = fetch ? [false] : BOTH
    return levels.flatMap((cpl) => stacks.map((stack) => ({ address, access, cpl, stack })))
  })
}

function low(address: bigint): number {
  return Number(BigInt.asIntN(32, address))
}

function attempt(cpu: Cpu, { address, access, cpl, stack }: LinearAccess): string {
  cpu.cpl = cpl
  cpu.cr2 = 1n
  const verb = verbOf(access)
  const implicit = (access & AccessBit.Implicit) !== 0
  try {
    return `0x${cpu.translate(address, verb, { implicit, stack }).toString(16)}`
  } catch (error) {
    if (error instanceof PageFault)
      return `#PF error code 0x${error.errorCode.toString(16)} CR2 0x${cpu.cr2.toString(16)}`
    if (error instanceof CpuException) return `${error.mnemonic} CR2 0x${cpu.cr2.toString(16)}`
    throw error
  }
}

function expectation(
  manuals: Manuals,
  setting: Setting,
  each: LinearAccess,
  structures: PagingStructures,
): string {
  const { state, lass } = setting
  const fault = manuals.linearAddressFault(
    {
      ia32e: true,
      linearBits: state.structure === '4-level' ? 48 : 57,
      lass,
      smap: state.smap,
      alignmentCheck: state.ac,
    },
    each.address,
    each.access,
    each.stack,
  )
  // What is refused before paging leaves CR2 alone.
  if (fault !== undefined) return `${fault} CR2 0x1`
  const oracle = manuals.translation(translationState(state))
  const code = oracle.predict(structures.current, low(each.address), each.access)
  oracle.mark(structures.current)
  return code === NO_FAULT
    ? `0x${(oracle.frame * 4096).toString(16)}`
    : `#PF error code 0x${code.toString(16)} CR2 0x${each.address.toString(16)}`
}

/** Linear-address-space separation and canonical addresses, which come before paging. */
export const LINEAR_ADDRESSES_SET: ConformanceSet = {
  name: 'linear-addresses',
  title:
    'LASS, SMAP, AC, CS.L × canonical or not, both halves × 8 accesses, CPL, stack × page: #GP, #SS, #PF',
  chunks: () => 2,
  run(chunk, _size, recorder, manuals) {
    const structure = chunk === 0 ? '4-level' : '5-level'
    const processor = new Processor(
      { ...PLAIN_STATE, structure },
      PagingStructures.root(structure, LOW_TABLES),
    )
    const { cpu } = processor
    const structures = new PagingStructures(processor.machine.memory, structure, LOW_TABLES)
    const path = new Path()
    for (const setting of settings(structure)) {
      cpu.codeSegmentLong = true
      processor.apply(setting.state)
      cpu.writeCr4(setting.lass ? cpu.cr4 | Cr4.LASS : cpu.cr4 & ~Cr4.LASS)
      cpu.codeSegmentLong = setting.longCode
      for (const address of ADDRESSES) {
        // Compatibility mode has addresses of 32 bits.
        if (!setting.longCode && address > 0xffff_ffffn) continue
        structures.select(low(address >> 32n), low(address))
        for (const page of PAGES) {
          for (let depth = 0; depth < structures.depths - 1; depth++)
            path.set(depth, structures.tableLow(depth) | 7, structures.tableHigh(depth))
          path.set(structures.depths - 1, 0x765_4000 | page, 0)
          for (const each of accessesTo(address)) {
            structures.place(path)
            cpu.mmu.flushAll()
            const expected = expectation(manuals, setting, each, structures)
            const found = attempt(cpu, each)
            const same = structures.matches()
            if (!same) structures.readBack()
            recorder.compare(expected, same ? found : `${found}, other entries`, () =>
              describe(setting, each, page),
            )
          }
        }
      }
    }
  },
}

function describe(setting: Setting, each: LinearAccess, page: number): string {
  const flags = `${setting.lass ? ' LASS' : ''}${setting.longCode ? '' : ' compatibility mode'}`
  const what = `${describeAccess(each.access)}${each.stack ? ' of the stack' : ''} at CPL ${each.cpl}`
  return `${describeState(setting.state)}${flags}, ${what}, 0x${each.address.toString(16)}, page flags ${page}`
}
