import { AccessBit, ErrorBit } from '../oracle/access-rights.ts'
import type { RegisterState } from '../oracle/register-state.ts'
import { NO_FAULT, type Path, STRUCTURE_LEVELS } from '../oracle/translation.ts'

function hex(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0')
}

/** Register state in words: what is on. */
export function describeState(state: RegisterState): string {
  const flags = [
    state.wp && 'WP',
    state.nxe && 'NXE',
    state.pse && 'PSE',
    state.smep && 'SMEP',
    state.smap && 'SMAP',
    state.ac && 'AC',
    state.pse36 && 'pse36',
    state.pages1G && 'pages1G',
    state.amdGlobalBit && 'amd',
  ].filter(Boolean)
  const keys = [
    state.pkru === undefined ? '' : ` PKE PKRU=${hex(state.pkru)}`,
    state.pkrs === undefined ? '' : ` PKS PKRS=${hex(state.pkrs)}`,
  ].join('')
  return `${state.structure} MAXPHYADDR=${state.physicalAddressBits} ${state.accessedFlags} ${flags.join(' ')}${keys}`
}

/** "user write", "implicit supervisor read". */
export function describeAccess(access: number): string {
  const mode =
    (access & AccessBit.User) !== 0
      ? 'user'
      : (access & AccessBit.Implicit) !== 0
        ? 'implicit supervisor'
        : 'supervisor'
  const verb =
    (access & AccessBit.Fetch) !== 0 ? 'fetch' : (access & AccessBit.Write) !== 0 ? 'write' : 'read'
  return `${mode} ${verb}`
}

/** The entries of a path as "PML4E 00000000:00222007 [P RW US]". */
export function describePath(structure: RegisterState['structure'], path: Path): string {
  const names: readonly (readonly [number, string])[] = [
    [1, 'P'],
    [2, 'RW'],
    [4, 'US'],
    [0x20, 'A'],
    [0x40, 'D'],
    [0x80, 'PS'],
  ]
  return STRUCTURE_LEVELS[structure]
    .map(({ name }, depth) => {
      const low = path.low[depth]!
      const high = path.high[depth]!
      const flags = names.filter(([bit]) => (low & bit) !== 0).map(([, flag]) => flag)
      if (high < 0) flags.push('XD')
      return `${name} ${hex(high)}:${hex(low)} [${flags.join(' ')}]`
    })
    .join(', ')
}

/** An outcome: the frame reached, or the page fault's error code with its bits. */
export function describeOutcome(errorCode: number, frame: number): string {
  if (errorCode === NO_FAULT) return `frame 0x${frame.toString(16)}`
  const bits = Object.entries(ErrorBit)
    .filter(([, bit]) => (errorCode & bit) !== 0)
    .map(([name]) => name)
  return `#PF error code 0x${errorCode.toString(16)} [${bits.join(' ')}]`
}
