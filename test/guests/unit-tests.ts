import { readFileSync } from 'node:fs'
import { CPU_MODELS, type CpuModelName } from '@trapdoor/core'
import { type GuestOutcome, loadGuest, readMultibootImage, runGuest } from '@trapdoor/guest'

/** A test of kvm-unit-tests: a file in its folder x86, and the processors that it runs on. */
export interface UnitTest {
  readonly name: string
  /** File name without extension. */
  readonly file: string
  readonly cpu: CpuModelName
  /** QEMU's `-cpu` for the same, as x86/unittests.cfg has it. */
  readonly qemuCpu: string
}

/** Those that judge segments, interrupts, privilege and paging, and need neither KVM nor a device that is not modelled. */
export const UNIT_TESTS: readonly UnitTest[] = [
  { name: 'memory', file: 'memory', cpu: 'zen3', qemuCpu: 'max' },
  { name: 'smap', file: 'smap', cpu: 'zen3', qemuCpu: 'max' },
  { name: 'pku', file: 'pku', cpu: 'zen3', qemuCpu: 'max' },
  { name: 'syscall', file: 'syscall', cpu: 'zen3', qemuCpu: 'Opteron_G1,vendor=AuthenticAMD' },
  { name: 'umip', file: 'umip', cpu: 'zen3', qemuCpu: 'qemu64,+umip' },
  { name: 'idt_test', file: 'idt_test', cpu: 'zen3', qemuCpu: 'qemu64' },
  { name: 'la57', file: 'la57', cpu: 'zen4', qemuCpu: 'max' },
  { name: 'pcid', file: 'pcid', cpu: 'zen3', qemuCpu: 'Haswell' },
  { name: 'pks', file: 'pks', cpu: 'sapphire-rapids', qemuCpu: 'max' },
  { name: 'xsave', file: 'xsave', cpu: 'zen3', qemuCpu: 'max' },
  { name: 'eventinj', file: 'eventinj', cpu: 'zen3', qemuCpu: 'max' },
  { name: 'tsc', file: 'tsc', cpu: 'zen3', qemuCpu: 'max' },
  { name: 'lam', file: 'lam', cpu: 'zen3', qemuCpu: 'max' },
  { name: 'setjmp', file: 'setjmp', cpu: 'zen3', qemuCpu: 'max' },
  { name: 'rmap_chain', file: 'rmap_chain', cpu: 'zen3', qemuCpu: 'max' },
  { name: 'access', file: 'access_test', cpu: 'haswell', qemuCpu: 'Haswell' },
]
/** The same with protection keys, which are ten times as many cases. */
export const FULL_ACCESS: UnitTest = {
  name: 'access with protection keys',
  file: 'access_test',
  cpu: 'zen3',
  qemuCpu: 'max',
}

/** What a run has printed and how it ended. */
export interface Verdict {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  /** The guest said that all went well, and nothing failed. */
  readonly isGood: boolean
  readonly ended: string
  readonly cpuSeconds: number
  readonly text: string
}

const MEMORY_BYTES = 256 * 2 ** 20

/** Runs a test on our CPU. */
export function runOurs(
  folder: string,
  test: UnitTest,
): Verdict & { readonly instructions: number } {
  const path = imagePath(folder, test)
  const bytes: number[] = []
  const before = process.cpuUsage()
  const guest = loadGuest(readMultibootImage(readFileSync(path), path), {
    file: path,
    features: CPU_MODELS[test.cpu],
    memoryBytes: MEMORY_BYTES,
    transmit: (byte) => {
      bytes.push(byte)
    },
  })
  const outcome = runGuest(guest, Infinity)
  const { user, system } = process.cpuUsage(before)
  const text = Buffer.from(bytes).toString('latin1')
  return {
    ...countResults(text),
    ended: describe(outcome),
    isGood: outcome.kind === 'exit' && outcome.value === 0 && countResults(text).failed === 0,
    cpuSeconds: (user + system) / 1e6,
    instructions: guest.cpu.instructions,
    text,
  }
}

export function imagePath(folder: string, { file }: UnitTest): string {
  return `${folder}/x86/${file}.flat`
}

/** Lines of lib/report.c; access_test counts its cases by itself. */
export function countResults(text: string): Pick<Verdict, 'passed' | 'failed' | 'skipped'> {
  const count = (pattern: RegExp): number => text.match(pattern)?.length ?? 0
  const cases = [...text.matchAll(/^(\d+) tests, (\d+) failures$/gm)]
  const sum = (group: 1 | 2): number =>
    cases.reduce((total, match) => total + Number(match[group]), 0)
  return {
    passed: count(/^PASS/gm) + sum(1) - sum(2),
    failed: count(/^FAIL/gm) + sum(2),
    skipped: count(/^SKIP/gm),
  }
}

function describe(outcome: GuestOutcome): string {
  return outcome.kind === 'exit' ? `exit ${outcome.value}` : outcome.kind
}
