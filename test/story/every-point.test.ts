// Scenarios that promise every point of something go there, and go on where a machine dies on the way.
import type { Plugin } from '@trapdoor/harness'
import type { BootPhase, Kernel } from '@trapdoor/kernel'
import { describe, expect, test } from 'vitest'
import { findingOf, play } from './cases.ts'

/** Names of the kernels that came to a phase while `run` ran, with a plugin that watches them. */
function kernelsAt(phase: BootPhase, run: (witness: Plugin) => void): string[] {
  const names: string[] = []
  run({
    name: 'witness',
    apiVersion: 1,
    rules: [
      {
        id: 'WITNESS',
        title: 'notes kernels',
        severity: 'info',
        advice: 'none',
        sources: ['this test'],
        rewindable: true,
        watch: ({ hooks }) => {
          hooks.phase.tap('WITNESS', (kernel: Kernel) => {
            if (kernel.phase === phase) names.push(kernel.name)
          })
        },
      },
    ],
  })
  return names
}

const noteOf = ({ result }: ReturnType<typeof play>, name: string): string =>
  result.services.find((each) => each.name === name)!.status

const HANDLERS = { NMI: 2, machineCheck: 18, timer: 0xef } as const

describe('an allocation that fails', () => {
  test('is each in its turn, although the kernel dies of most', () => {
    let note = ''
    const kernels = kernelsAt('efi', (witness) => {
      const trace = play('none/private-efi-pgd/allocation-failure', undefined, {
        comesUp: false,
        plugins: [witness],
      })
      note = noteOf(trace, 'failed allocations')
      expect(findingOf(trace, 'H3').message).toMatch(/ \(11 times\)$/)
    })
    expect(note).toBe('of 11: the kernel lives on after 0, goes without EFI after 0, dies after 11')
    expect(kernels).toHaveLength(1 + 11)
  })

  test('does to Linux 6.1 what its functions do about it, one by one', () => {
    const trace = play('none/linux-6.1/allocation-failure', undefined, { comesUp: false })
    expect(noteOf(trace, 'failed allocations')).toBe(
      'of 33: the kernel lives on after 27, goes without EFI after 5, dies after 1',
    )
    // No kernel knows of a call that the one before it on the same half-booted machine died in.
    expect(trace.result.findings.map(({ rule }) => rule)).not.toContain('H2')
  })

  test('is a sample where there are thousands, and the results say so', () => {
    const trace = play('none/private-efi-pgd:state=A/allocation-failure', undefined, {
      comesUp: false,
    })
    expect(noteOf(trace, 'failed allocations')).toMatch(/^of 20\d\d, 384 tried: /)
  })
})

describe('an interrupt', () => {
  const { events } = play('none/private-efi-pgd/interrupts')
  const switches = events.flatMap((event, index) =>
    event.kind === 'cr3-write' && event.era === 'first kernel' && index > firstInterrupt()
      ? [index]
      : [],
  )

  function firstInterrupt(): number {
    return events.findIndex(({ kind }) => kind === 'interrupt')
  }

  function taken(vector: number, from: number, to: number): number {
    return events
      .slice(from, to)
      .filter((event) => event.kind === 'interrupt' && event.vector === vector).length
  }

  test('comes before the switch, at each access of the patch’s prolog, inside, and at each of its epilog', () => {
    const [into, back, again] = switches
    // Once before the prolog; it saves RFLAGS and CR3, with two writes.
    expect(taken(HANDLERS.NMI, 0, into!)).toBe(3)
    expect(taken(HANDLERS.NMI, into!, back!)).toBeGreaterThan(5)
    // RFLAGS are read back behind the switch; then the call is over, and the next one begins as the first.
    expect(taken(HANDLERS.NMI, back!, again!)).toBe(1 + 1 + 3)
  })

  test('is the timer’s only while interrupts are on: outside of the patch’s calls', () => {
    const [into, back] = switches
    expect(taken(HANDLERS.timer, 0, into!)).toBeGreaterThan(0)
    expect(taken(HANDLERS.timer, into!, back!)).toBe(0)
    expect(taken(HANDLERS.machineCheck, into!, back!)).toBe(taken(HANDLERS.NMI, into!, back!))
  })

  test('finds a gap in the tables whatever the TLB still holds, and is named', () => {
    const trace = play('none/private-efi-pgd:state=A/interrupts', undefined, { comesUp: false })
    expect(findingOf(trace, 'H16')).toMatchObject({
      actor: 'kernel (NMI handler)',
      message:
        'the NMI handler reaches for 0xffffc90000000000 inside GetTime, which the kernel maps and the tables of the call do not',
    })
  })

  test('in the middle of firmware’s code is the handler’s doing, not the image’s', () => {
    const trace = play('none/private-efi-pgd:state=A/kdump')
    expect(findingOf(trace, 'H16')).toMatchObject({
      actor: 'kernel (NMI handler)',
      service: 'SetVariable',
    })
  })
})

describe('a crash', () => {
  test('comes before every write of two calls and of the way in and out, and each crash kernel runs', () => {
    let note = ''
    const crashed = kernelsAt('running', (witness) => {
      note = noteOf(
        play('none/private-efi-pgd/kdump-everywhere', undefined, { plugins: [witness] }),
        'crash kernels',
      )
    }).filter((name) => name === 'crash kernel')
    expect(note).toBe(`${crashed.length} booted, one for each state of memory; 0 died`)
    // Two calls with four points each between the steps, and the two writes of each prolog.
    expect(crashed.length).toBeGreaterThan(2 * (4 + 2))
  })

  test('is tried everywhere although every crash kernel dies', () => {
    const trace = play('none/legacy-virtual/kdump-everywhere')
    const [, booted, died] = /^(\d+) booted.*; (\d+) died$/.exec(noteOf(trace, 'crash kernels'))!
    expect(Number(booted)).toBeGreaterThan(10)
    expect(died).toBe(booted)
    expect(findingOf(trace, 'H8').message).toContain(`(${died} times)`)
    // The first kernel goes on after each of them, and finishes its call.
    expect(trace.result.services.filter(({ kernel }) => kernel === 'first kernel')).toMatchObject([
      { name: 'GetTime' },
      { name: 'SetVariable' },
      { name: 'GetVariable' },
      { name: 'GetTime', ok: true },
      { name: 'SetVariable', ok: true },
      { name: 'crash kernels' },
    ])
  })

  test('whose kernel goes without EFI is told with that kernel’s name', () => {
    expect(play('none/freebsd/kdump-everywhere').result.reason).toMatch(
      /^crash kernel goes without/,
    )
  })
})

describe('memory that is added behind a new root entry', () => {
  test.each(['B', 'C'])('is in the tables of state %s, whose notifier clones again', (state) => {
    expect(play(`none/private-efi-pgd:state=${state}/hotplug`).result.outcome).toBe('ok')
  })

  test.each(['private-efi-pgd:state=A', 'global-identity-map'])(
    'is not in those of %s, which the kernel’s global translations only hide for a while',
    (strategy) => {
      const trace = play(`none/${strategy}/hotplug`)
      // 512 GiB behind the beginning of the direct map.
      expect(findingOf(trace, 'H16').access?.address).toMatch(/^0xffff88800000/)
    },
  )
})
