import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  PluginRegistry,
  traceCase,
  verifyFolder,
} from '@trapdoor/harness'
import { describe, expect, test } from 'vitest'
import { findingOf } from './cases.ts'

// 64-bit kernels on 32-bit firmware, as on tablets with Bay Trail: OVMF for ia32, with 1 GiB of memory and with 4, half of which is above 4 GiB.
const config = await loadConfig({
  directory: import.meta.dirname,
  builtIn: BUILT_IN_PLUGINS,
  overrides: {
    memoryMaps: [
      'small=ia32:../../configs/i386/ovmf-ia32-q35-1g.txt',
      'large=ia32:../../configs/i386/ovmf-ia32-q35-4g.txt',
    ],
  },
})
const environment = createEnvironment(config)
const OLD = ['linux-3.15-mixed', 'linux-4.9-mixed']
const NEW = ['linux-5.6-mixed', 'linux-6.1-mixed']

function play(id: string): CaseTrace {
  return traceCase(environment, findCase(config, id))
}

function endsOf(cells: readonly string[]): Record<string, string> {
  return Object.fromEntries(cells.map((cell) => [cell, play(cell).result.outcome]))
}

function all(cells: readonly string[], outcome: string): Record<string, string> {
  return Object.fromEntries(cells.map((cell) => [cell, outcome]))
}

function cellsOf(strategies: readonly string[], scenarios: readonly string[]): string[] {
  return strategies.flatMap((strategy) =>
    scenarios.map((scenario) => `small/none/${strategy}/${scenario}`),
  )
}

describe('mixed mode', () => {
  test('works from boot to suspend, through NMIs and machine checks', () => {
    const cells = cellsOf(
      [...OLD, ...NEW],
      ['boot', 'variables', 'suspend', 'hibernate', 'interrupts'],
    )
    expect(endsOf(cells)).toEqual(all(cells, 'ok'))
  })

  test('ends with the kernel: neither kexec nor a crash kernel has runtime services', () => {
    const cells = cellsOf([...OLD, ...NEW], ['kexec', 'kdump'])
    expect(endsOf(cells)).toEqual(all(cells, 'refused'))
  })

  test('let two CPUs share a page of stack up to 5.5', () => {
    for (const strategy of OLD) {
      const trace = play(`small/none/${strategy}/services`)
      expect(trace.result.outcome).toBe('corrupt')
      expect(findingOf(trace, 'H1').message).toContain(
        'runs on mm of task 1 instead of mm of task 0',
      )
    }
    const cells = cellsOf(NEW, ['services', 'interleavings'])
    expect(endsOf(cells)).toEqual(all(cells, 'ok'))
  })

  test('loses the upper half of a pointer into memory above 4 GiB', () => {
    for (const strategy of ['linux-4.9-mixed', ...NEW]) {
      const trace = play(`large/none/${strategy}/growth`)
      expect(trace.result.outcome).toBe('fault')
      expect(findingOf(trace, 'H22').message).toMatch(
        /passed 0x00000001\w+, of which 0x00000000\w+ arrives/,
      )
    }
  })

  test('passes what is no direct-map address as something else, up to 4.5', () => {
    const trace = play('large/none/linux-3.15-mixed/services')
    expect(findingOf(trace, 'H22').message).toMatch(/^SetVariable is passed 0x0000410000\w+/)
  })

  test('is of no use to firmware that asserts that addresses change', () => {
    for (const strategy of [...OLD, ...NEW]) {
      expect(play(`small/Q05/${strategy}/boot`).result.outcome).toBe('hang')
    }
  })

  test('keeps boot services mapped, so that firmware writes over what the kernel has there', () => {
    const native = play('small/Q02/linux-6.1-mixed/boot')
    expect(native.result.outcome).toBe('corrupt')
    expect(findingOf(native, 'H18').message).toContain('page cache of the first kernel')
  })
})

const OBSERVED = join(import.meta.dirname, 'observed/mixed-mode')
// Another initrd, and so another map of what the loader has put where.
const AFTER_KEXEC = join(import.meta.dirname, 'observed/mixed-mode-kexec')
const { strategies } = new PluginRegistry(BUILT_IN_PLUGINS)

describe('Linux 6.1.192 on OVMF for ia32', () => {
  test('has every region and every leaf of its EFI page tables where the model has them', () => {
    const boots = verifyFolder(OBSERVED, strategies.values())
    expect(boots.map(({ name }) => name)).toEqual([
      'ia32-q35-4Msecboot-1G',
      'nd-ia32-q35-4Msecboot-1G',
    ])
    for (const { error, kernels } of boots) {
      expect(error).toBeUndefined()
      const [kernel] = kernels
      expect(kernel).toMatchObject({ strategy: 'linux-6.1-mixed', leaves: 8915 })
      // Where in .rodata the trampoline is, on either side.
      const reasons = kernel!.differences.map(({ explanation }) => explanation?.reason)
      expect(reasons).toHaveLength(2)
      for (const reason of reasons) expect(reason).toContain('return trampoline')
    }
  })

  test('has no runtime services after kexec, and the same memory', () => {
    const [boot] = verifyFolder(AFTER_KEXEC, strategies.values())
    expect(boot!.kernels).toMatchObject([
      { stage: 'boot1', ending: 'runtime services on', differences: [] },
      { stage: 'boot2', ending: 'no runtime services', differences: [] },
    ])
    expect(boot!.kernels[1]!.e820Entries).toBeGreaterThan(20)
  })

  test('would differ where one page more of the kernel were executable', () => {
    const folder = mkdtempSync(join(tmpdir(), 'trapdoor-'))
    try {
      cpSync(OBSERVED, folder, { recursive: true })
      const file = join(folder, 'nd-ia32-q35-4Msecboot-1G/boot1.efi-pgd.json')
      const text = readFileSync(file, 'utf8')
      expect(text).toContain('["0x6400000", "0x6400000", "0x27000", "4K", "--"]')
      writeFileSync(file, text.replace('"0x27000", "4K", "--"', '"0x27000", "4K", "-x"'))
      const changed = verifyFolder(folder, strategies.values()).at(-1)!
      const unexplained = changed.kernels[0]!.differences.filter(
        ({ explanation }) => explanation === undefined,
      )
      expect(unexplained).toMatchObject([{ subject: 'EFI page tables', observedAt: 0x640_0000 }])
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
