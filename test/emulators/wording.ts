import { PageFaultBit } from '@trapdoor/core'

import type { Access, Controls } from './cases/case.ts'
import type { PathStep } from './cases/table-set.ts'
import type { Comparison, StrayChange } from './experiment.ts'
import { COMPLETED } from './guest/layout.ts'
import type { Reading } from './guest/records.ts'

const EXCEPTIONS: Readonly<Record<number, string>> = {
  6: '#UD',
  8: '#DF',
  12: '#SS',
  13: '#GP',
  14: '#PF',
}
/** The result of a case that never ended. */
const NO_RESULT = 0xffff_ffff

const ERROR_CODE_BITS: readonly (readonly [string, number])[] = [
  ['P', PageFaultBit.Present],
  ['W', PageFaultBit.Write],
  ['U', PageFaultBit.User],
  ['RSVD', PageFaultBit.Reserved],
  ['I', PageFaultBit.Instruction],
  ['PK', PageFaultBit.ProtectionKey],
]

const ENTRY_FLAGS: readonly (readonly [string, bigint])[] = [
  ['P', 0x1n],
  ['RW', 0x2n],
  ['US', 0x4n],
  ['PWT', 0x8n],
  ['PCD', 0x10n],
  ['A', 0x20n],
  ['D', 0x40n],
  ['PS/PAT', 0x80n],
  ['G', 0x100n],
  ['NX', 1n << 63n],
]

/** How an access ended, in a few words: `completed`, or the exception with its error code. */
export function describeEnding({
  vector,
  errorCode,
}: {
  vector: number
  errorCode: number
}): string {
  if (vector === COMPLETED) return 'completed'
  if (vector === NO_RESULT) return 'no result: the guest did not get so far'
  const name = EXCEPTIONS[vector] ?? `vector ${vector}`
  if (vector !== 14) return `${name}(${errorCode})`
  const bits = ERROR_CODE_BITS.filter(([, bit]) => (errorCode & bit) !== 0).map(([bit]) => bit)
  return `${name}(${bits.join(' ')})`
}

/** A case in full: tables, registers, access, and what each side made of it. */
export function describeComparison({ index, trial, theirs }: Comparison): string {
  const { subject, ours, expected, faults } = trial
  const { layout, controls, access, path, address, root } = subject
  const lines = [
    `case ${index}, ${layout.name} paging: ${describeAccess(access)} at ${hex(address)}`,
    `  CR3 ${hex(root.address)}, ${describeControls(controls)}`,
    ...path.map((step) => `  ${describeStep(step)}`),
    `  ours     ${describeReading(ours)}`,
    ...(faults.length === 0
      ? []
      : [`  expected ${describeReading(expected)}  (${faults.map(({ id }) => id).join(', ')})`]),
    `  theirs   ${describeReading(theirs)}`,
  ]
  return lines.join('\n')
}

export function describeStrayChange({ first, address, was, is }: StrayChange): string {
  return `run from case ${first}: the table entry at ${hex(address)} was ${hex(was)} and is ${hex(is)}, though no case led there`
}

function describeAccess({ verb, user, stack }: Access): string {
  return `${user ? 'user' : 'supervisor'} ${verb}${stack ? ' of the stack' : ''}`
}

function describeControls(controls: Controls): string {
  const names = ['wp', 'smep', 'smap', 'pge', 'pke', 'pks', 'nxe', 'ac'] as const
  const set = names.filter((name) => controls[name]).map((name) => name.toUpperCase())
  return `${set.join(' ') || 'no flag'}; PKRU ${hex(controls.pkru)}, PKRS ${hex(controls.pkrs)}`
}

function describeStep({ level, table, index, entry }: PathStep): string {
  const flags = ENTRY_FLAGS.filter(([, bit]) => (entry & bit) !== 0n).map(([name]) => name)
  const key = (entry >> 59n) & 0xfn
  return `level ${level} entry ${index} at ${hex(table.addressOf(index))}: ${hex(entry)} = ${flags.join(' ')}, key ${key}`
}

function describeReading({ vector, errorCode, cr2, rax, after, path }: Reading): string {
  const entries = path.map((low) => hex(low)).join(' ')
  return `${describeEnding({ vector, errorCode })}, CR2 ${hex(cr2)}, RAX ${hex(rax)}, target ${hex(after)}, entries ${entries}`
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}
