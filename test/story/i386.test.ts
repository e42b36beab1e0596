import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  planCases,
  traceCase,
} from '@trapdoor/harness'
import { describe, expect, test } from 'vitest'
import { findingOf } from './cases.ts'

// "Please do i386, too" (Eric W. Biederman and H. Peter Anvin on "EFI: run EFI in physical mode", August 2010): what the patch can do on 32-bit kernels, and what it cannot.
// Played on OVMF for ia32, whose runtime regions lie above the 896 MiB that i386 maps for good.
const config = await loadConfig({
  directory: import.meta.dirname,
  builtIn: BUILT_IN_PLUGINS,
  overrides: {
    memoryMaps: [
      'small=ia32:../../configs/i386/ovmf-ia32-q35-1g.txt',
      'large=ia32:../../configs/i386/ovmf-ia32-q35-4g.txt',
      'wide=../../configs/demo/ovmf-q35-4m.txt',
      'low=ia32:../../configs/demo/ovmf-pc-2m.txt',
    ],
  },
})
const environment = createEnvironment(config)

function play(id: string): CaseTrace {
  return traceCase(environment, findCase(config, id))
}

function endsOf(cells: readonly string[]): Record<string, string> {
  return Object.fromEntries(cells.map((cell) => [cell, play(cell).result.outcome]))
}

function all(cells: readonly string[], outcome: string): Record<string, string> {
  return Object.fromEntries(cells.map((cell) => [cell, outcome]))
}

const PATCH = ['i386-private-efi-pgd', 'i386-private-efi-pgd:paging=32-bit']
const PAGING_OFF = ['i386-paging-off', 'i386-paging-off:paging=32-bit']
const VIRTUAL = [
  'i386-legacy-virtual',
  'i386-linux-3.4',
  'i386-linux-3.4:paging=32-bit',
  'i386-linux-3.18',
  'i386-linux-3.18:paging=32-bit',
]

describe('the patch of 2010, carried over to i386', () => {
  test.each(['small', 'large'])(
    'works below PAGE_OFFSET, with PAE and without, after kexec and in the crash kernel (%s)',
    (machine) => {
      const cells = PATCH.flatMap((strategy) =>
        ['boot', 'services', 'kexec', 'kdump', 'interrupts', 'interleavings'].map(
          (scenario) => `${machine}/none/${strategy}/${scenario}`,
        ),
      )
      expect(endsOf(cells)).toEqual(all(cells, 'ok'))
    },
  )

  test.each(PATCH)('cannot reach a device above PAGE_OFFSET 1:1 (%s)', (strategy) => {
    const trace = play(`small/Q21/${strategy}/boot`)
    expect(trace.result.outcome).toBe('fault')
    const finding = findingOf(trace, 'H23')
    expect(finding.message).toContain('a runtime region where the 1:1 map has ended')
    expect(finding.access).toMatchObject({ kind: 'read', address: '0x00000000fed1808a' })
    const remarks = trace.result.findings.filter(({ rule }) => rule === 'H23')
    expect(remarks.map(({ message }) => message)).toContainEqual(
      expect.stringMatching(
        /the runtime region at 0x00000000fed18000 lies where linear addresses are the kernel’s/,
      ),
    )
  })

  test.each(PATCH)(
    'depends on how the kernel is split: below 2 GiB, not below 1 GiB (%s)',
    (strategy) => {
      const split = (user: string): string =>
        `${strategy.includes(':') ? `${strategy},` : `${strategy}:`}split=${user}`
      const [ends, kexecs] = ['boot', 'kexec'].map((scenario) =>
        ['3g', '2g', '1g'].map((user) => play(`large/none/${split(user)}/${scenario}`)),
      )
      for (const traces of [ends!, kexecs!]) {
        expect(traces.map(({ result }) => result.outcome)).toEqual(['ok', 'ok', 'fault'])
      }
      expect(findingOf(ends![2]!, 'H23').message).toContain(
        'inside GetTime, a runtime region where the 1:1 map has ended',
      )
    },
  )

  test('may let the firmware win above PAGE_OFFSET, in page tables that are the kernel’s', () => {
    const { result } = play('small/Q21/i386-private-efi-pgd:above=firmware/boot')
    expect(result.outcome).toBe('ok')
  })

  test('or refuse', () => {
    const { result } = play('small/Q21/i386-private-efi-pgd:above=refuse/boot')
    expect(result.outcome).toBe('refused')
  })
})

describe('paging switched off around every call', () => {
  test.each(PAGING_OFF)(
    'reaches all of the firmware’s 4 GiB, and survives kexec (%s)',
    (strategy) => {
      const cells = ['none', 'Q03', 'Q21', 'Q22', 'Q26'].flatMap((firmware) =>
        ['boot', 'kexec'].map((scenario) => `small/${firmware}/${strategy}/${scenario}`),
      )
      expect(endsOf(cells)).toEqual(all(cells, 'ok'))
    },
  )

  test('does so wherever the kernel begins', () => {
    const cells = ['2g', '1g'].map((user) => `large/none/i386-paging-off:split=${user}/kexec`)
    expect(endsOf(cells)).toEqual(all(cells, 'ok'))
  })

  test.each(PAGING_OFF)(
    'has no physical address for what lies in vmalloc space (%s)',
    (strategy) => {
      const { result } = play(`small/none/${strategy}/services`)
      expect(result.outcome).toBe('degraded')
      expect(result.services.filter(({ ok }) => !ok).map(({ name }) => name)).toContain(
        'SetVariable',
      )
    },
  )

  test('would leave other CPUs the GDT of the first, if efi_32.c were taken as it is', () => {
    const trace = play('small/none/i386-paging-off:save=static/services')
    expect(trace.result.outcome).toBe('corrupt')
    expect(findingOf(trace, 'H1').message).toMatch(/^after GetVariable CPU 1 has its GDT at 0x/)
  })

  test('finds no interrupt handler: an NMI inside a call leaves nothing to dump', () => {
    const trace = play('small/none/i386-paging-off/kdump')
    expect(trace.result.outcome).toBe('fault')
    expect(findingOf(trace, 'H15').message).toBe(
      'an interrupt inside SetVariable finds no handler, and the machine resets: paging is off',
    )
  })
})

describe('virtual mode on i386', () => {
  test.each(VIRTUAL)('works until kexec (%s)', (strategy) => {
    const cells = ['boot', 'services', 'suspend'].map(
      (scenario) => `small/none/${strategy}/${scenario}`,
    )
    expect(endsOf(cells)).toEqual(all(cells, 'ok'))
    const trace = play(`small/none/${strategy}/kexec`)
    expect(trace.result.outcome).toBe('fault')
    expect(findingOf(trace, 'H8')).toMatchObject({ kernel: 'second kernel', phase: 'efi' })
  })

  test('of 2.6.35 without PAE does not come back from the first 8 MiB, where it does not lie', () => {
    const trace = play('small/none/i386-legacy-virtual:paging=32-bit/boot')
    expect(trace.result.outcome).toBe('fault')
    expect(findingOf(trace, 'H16').message).toContain('is not mapped at 0x0000000001803000')
    expect(play('small/none/i386-linux-3.4:paging=32-bit/boot').result.outcome).toBe('ok')
  })
})

describe('firmware and kernel of different width', () => {
  test('do without runtime services, by the kernel’s own check', () => {
    const cells = [
      'small/none/legacy-virtual/boot',
      'small/none/private-efi-pgd/kexec',
      'wide/none/i386-legacy-virtual/boot',
      'wide/none/i386-private-efi-pgd:paging=32-bit/kexec',
    ]
    expect(endsOf(cells)).toEqual(all(cells, 'refused'))
    expect(play(cells[0]!).result.reason).toContain('firmware for ia32, kernel for x64')
    expect(play(cells[2]!).result.reason).toContain('firmware for x64, kernel for ia32')
  })

  test('a quirk of one width is in no row of the other', () => {
    const plan = planCases(config, { firmware: ['Q09'], strategies: ['xen'], scenarios: ['boot'] })
    expect(plan.map(({ id }) => id)).toEqual(['wide/Q09/xen/boot'])
  })
})

test.each(['i386-legacy-virtual', 'i386-linux-3.4', 'i386-linux-3.18'])(
  '%s: the second kernel jumps to 0 since it read converted pointers, not since page 0 is free',
  (strategy) => {
    const { result } = play(`low/none/${strategy}/kexec`)
    expect(result.outcome).toBe('fault')
    expect(result.findings[0]).toMatchObject({ rule: 'H8', kernel: 'second kernel' })
    expect(result.reason).toContain('an address that an earlier kernel gave the firmware')
  },
)

test.each(['i386-legacy-virtual', 'i386-linux-3.4', 'i386-paging-off'])(
  '%s: nothing is wrong with the stack of a call without paging, nor with what was lent to it',
  (strategy) => {
    const { result } = play(`low/none/${strategy}/boot`)
    expect(result.services.map(({ ok }) => ok)).toEqual([true, true, true])
    const rules = result.findings.map(({ rule }) => rule)
    expect(rules).not.toContain('H14')
    expect(rules).not.toContain('H18')
  },
)
