// What the scenarios beyond boot, kexec and kdump show, under strategies that differ in it.
import { describe, expect, test } from 'vitest'
import { findingOf, MACHINE, play, type Setting } from './cases.ts'

const outcomeOf = (cell: string): string => play(cell).result.outcome

function said(cell: string): string[] {
  return play(cell).events.flatMap((event) =>
    event.kind === 'message' && event.source === 'kernel' ? [event.text] : [],
  )
}

const vectors = (strategy: string): number[] =>
  play(`none/${strategy}/interrupts`).events.flatMap((event) =>
    event.kind === 'interrupt' ? [event.vector] : [],
  )

const noteOf = (cell: string): string =>
  play(cell).result.services.find(({ name }) => name === 'preemption')!.status

const roots = (strategy: string): number[] =>
  play(`none/${strategy}/suspend`).events.flatMap((event) =>
    event.kind === 'cr3-write' && event.from === 0 && event.era === 'first kernel'
      ? [event.to]
      : [],
  )

const on = (cell: string, setting: Setting = {}): ReturnType<typeof play> =>
  play(cell, undefined, { cpu: 'arrow-lake', ...setting })

describe('interrupts inside calls', () => {
  test('find the kernel where all of its half is in the tables of the call', () => {
    for (const strategy of ['legacy-virtual', 'private-efi-pgd', 'linux-6.1', 'xen']) {
      expect(outcomeOf(`none/${strategy}/interrupts`)).toBe('ok')
    }
  })

  test('find no vmalloc space where only two root entries were cloned', () => {
    const trace = play('none/private-efi-pgd:state=A/interrupts', undefined, { comesUp: false })
    expect(findingOf(trace, 'H16').message).toContain('0xffffc90000000000')
  })

  test('are delivered through the IDT: NMI, machine check, and the timer', () => {
    expect(new Set(vectors('linux-6.1'))).toEqual(new Set([2, 18, 0xef]))
  })
})

describe('preemption', () => {
  test('does not happen where the strategy keeps it off', () => {
    expect(noteOf('none/linux-6.1/preemption')).toBe('not allowed inside calls')
    expect(noteOf('none/switches:interrupts=off,preemption=on/preemption')).toBe(
      'not allowed inside calls',
    )
  })

  test('brings firmware back to the page tables of its process, which lack it', () => {
    const trace = play('none/switches:preemption=on,faultRecovery=none/preemption', undefined, {
      comesUp: false,
    })
    expect(trace.result.outcome).toBe('fault')
    expect(trace.result.reason).toContain('SetVariable')
  })

  test('does no harm where calls run on the page tables of the process', () => {
    const cell =
      'none/switches:preemption=on,root=current,identity=off,addresses=direct-map/preemption'
    expect(noteOf(cell)).toMatch(/^\d+ times$/)
    expect(outcomeOf(cell)).toBe('ok')
  })
})

describe('growth after setup', () => {
  test('is seen by tables that copy the root entries at every call, and by those of the process', () => {
    for (const strategy of ['legacy-virtual', 'linux-3.14', 'linux-6.1']) {
      expect(outcomeOf(`none/${strategy}/growth`)).toBe('ok')
    }
  })

  test('is not seen by those that copied them once', () => {
    for (const strategy of ['private-efi-pgd', 'global-identity-map']) {
      const trace = play(`none/${strategy}/growth`)
      expect(findingOf(trace, 'H16').access?.address).toMatch(/^0xffffc98/)
    }
  })

  test('needs no new root entry where the kernel has them all from the boot on', () => {
    expect(outcomeOf('none/xen/growth')).toBe('ok')
  })
})

describe('hotplug', () => {
  test('brings a CPU up through the trampoline, and lets it call', () => {
    const { result, events } = play('none/linux-6.1/hotplug')
    expect(result.outcome).toBe('ok')
    const cpus = events.flatMap((event) =>
      event.kind === 'call' && event.name === 'GetVariable' ? [event.cpu] : [],
    )
    expect(new Set(cpus)).toEqual(new Set([0, 1]))
  })

  test('shows new memory to tables that are told of it, or that copy the root entries at every call', () => {
    for (const strategy of ['private-efi-pgd', 'private-efi-pgd:state=B', 'linux-3.14', 'xen']) {
      expect(outcomeOf(`none/${strategy}/hotplug`)).toBe('ok')
    }
  })

  test('is fatal behind the direct map’s first entry for tables that were filled once, whatever the TLB still holds', () => {
    for (const strategy of ['private-efi-pgd:state=A', 'global-identity-map']) {
      const trace = play(`none/${strategy}/hotplug`)
      expect(trace.result.outcome).toBe('fault')
      expect(findingOf(trace, 'H16').access?.address).toBe('0xffff888000000420')
    }
  })
})

describe('suspend', () => {
  test('takes every strategy through sleep and wakeup', () => {
    for (const strategy of ['legacy-virtual', 'global-identity-map', 'linux-3.14', 'linux-6.1']) {
      expect(outcomeOf(`none/${strategy}/suspend`)).toBe('ok')
    }
  })

  test('comes back on the identity map of a strategy that shares one, and on its own elsewhere', () => {
    // The real-mode memory is below 1 MiB, the shared map in the kernel's image.
    const [own, shared] = ['private-efi-pgd', 'global-identity-map'].map(roots)
    expect(own!.length).toBeGreaterThan(0)
    expect(shared!.length).toBeGreaterThan(0)
    expect(Math.max(...own!)).toBeLessThan(0x10_0000)
    expect(Math.min(...shared!)).toBeGreaterThan(0x10_0000)
  })
})

describe('hibernate', () => {
  test('works where both boots have one map, in virtual and in physical mode', () => {
    for (const strategy of ['legacy-virtual', 'private-efi-pgd', 'linux-3.14', 'linux-6.1']) {
      expect(outcomeOf(`none/${strategy}/hibernate`)).toBe('ok')
      expect(said(`none/${strategy}/hibernate`)).toContain('PM: Image restored')
    }
  })

  test('is fatal where the map has moved, and nobody compares', () => {
    for (const strategy of ['legacy-virtual', 'private-efi-pgd', 'linux-3.14']) {
      const cell = `none/${strategy}/hibernate-drift`
      expect(outcomeOf(cell)).toBe('fault')
      // It is not the boot that dies.
      expect(said(cell)).toContain('PM: Image restored')
      expect(play(cell).result.findings[0]).toMatchObject({
        rule: 'S4',
        kernel: 'first kernel',
        explanation: expect.stringContaining('There RuntimeServicesCode was 0x'),
      })
    }
  })

  test('costs a kernel its services that recovers from faults of firmware, and it is told why', () => {
    const { result } = play('none/freebsd/hibernate-drift')
    expect(result.outcome).toBe('degraded')
    expect(result.findings[0]).toMatchObject({ rule: 'S4', service: 'GetTime' })
    const { result: without } = play('none/freebsd/hibernate')
    expect(without.findings.map(({ rule }) => rule)).not.toContain('S4')
  })

  test('is refused by Linux from 4.10 on, which boots on', () => {
    expect(outcomeOf('none/linux-6.1/hibernate-drift')).toBe('ok')
    expect(said('none/linux-6.1/hibernate-drift')).toContain('PM: Image mismatch: memory map')
  })
})

describe('reboot', () => {
  test('keeps variables over cold and warm resets', () => {
    const { result } = play('none/linux-6.1/reboot')
    expect(result.outcome).toBe('ok')
    expect(result.services.map(({ status }) => status)).toContain('machine reset (cold)')
    expect(result.services.at(-1)!.status).toBe('machine reset (shutdown)')
  })
})

describe('capsule', () => {
  test('is put together after the warm reset, from physical addresses', () => {
    for (const strategy of ['linux-3.4', 'linux-4.6', 'linux-6.1', 'windows']) {
      const { result } = play(`none/${strategy}/capsule`)
      expect(result.outcome).toBe('ok')
      expect(result.services.at(-1)).toMatchObject({ name: 'GetVariable', ok: true })
    }
  })

  test('is nothing that 2.6.35, Xen and the BSDs have a wrapper for', () => {
    for (const strategy of ['legacy-virtual', 'private-efi-pgd', 'xen', 'freebsd']) {
      const { result, events } = play(`none/${strategy}/capsule`)
      expect([result.outcome, result.reason]).toEqual([
        'degraded',
        'UpdateCapsule: not called by this kernel',
      ])
      expect(
        events.filter((event) => event.kind === 'call' && event.name === 'UpdateCapsule'),
      ).toEqual([])
    }
  })
})

describe('allocations that fail', () => {
  test('kill kernels that do not expect it', () => {
    const trace = play('none/private-efi-pgd/allocation-failure', undefined, { comesUp: false })
    expect(findingOf(trace, 'H3').message).toContain('runs out of memory')
  })

  test('kill Linux 6.1 where a region’s tables fail, which it only warns of before it calls SetVirtualAddressMap', () => {
    const trace = play('none/linux-6.1/allocation-failure', undefined, { comesUp: false })
    expect(trace.result.outcome).toBe('fault')
    expect(trace.result.reason).toMatch(
      /^SetVirtualAddressMap needs 0x[0-9a-f]{16}, for which first kernel had no memory/,
    )
    expect(trace.result.findings[0]?.rule).toBe('H3')
  })
})

describe('chains of kernels', () => {
  test('of Linux from 3.14 on go both ways', () => {
    for (const scenario of ['kexec-chain-up', 'kexec-chain-down']) {
      for (const strategy of ['linux-3.14', 'linux-4.14', 'linux-6.1']) {
        expect(outcomeOf(`none/${strategy}/${scenario}`)).toBe('ok')
      }
    }
  })

  test('end where a kernel that hands nothing over follows one that took firmware to virtual mode', () => {
    const trace = play('none/private-efi-pgd/kexec-chain-up')
    expect(findingOf(trace, 'H8')).toMatchObject({ kernel: 'fourth kernel' })
  })
})

describe('interleavings', () => {
  test('of strategies that share nothing are few, and end well', () => {
    const two = play('none/legacy-virtual/interleavings').result
    expect(two.outcome).toBe('ok')
    expect(two.reason).toMatch(/all \d schedules that can make a difference/)
    expect(play('none/legacy-virtual/interleavings-4').result.reason).toContain('the one schedule')
  })

  test('of one that keeps CR3 in a static variable end badly, by the shortest schedule', () => {
    const { result } = play('none/private-efi-pgd:saveArea=static/interleavings')
    expect(result.outcome).toBe('corrupt')
    // Two calls of variable services keep apart by efivars_lock: it takes the clock's.
    expect(result.reason).toContain(
      'after GetTime CPU 0 runs on mm of task 1 instead of mm of task 0; shortest schedule: CPU 0 enter, CPU 0 execute, CPU 0 leave, CPU 0 enter, CPU 0 execute, CPU 1 enter, CPU 0 leave',
    )
  })

  test('of one with a lock are the orders in which it can be taken, CPUs that are alike taken for one', () => {
    expect(play('none/linux-4.3/interleavings').result.reason).toContain('all 6 schedules')
    expect(play('none/linux-4.3/interleavings-4').result.reason).toContain('all 4 schedules')
  })

  test('of one with a lock for the clock and another for variables mix up two processes', () => {
    const { result } = play('none/linux-3.14/interleavings-4')
    expect(result.outcome).toBe('corrupt')
    expect(result.reason).toBe(
      'after GetVariable CPU 0 runs on mm of task 1 instead of mm of task 0; shortest schedule: CPU 0 enter, CPU 0 execute, CPU 1 enter, CPU 0 leave',
    )
  })
})

describe('a million calls from a trap handler', () => {
  test('are priced by a few of them, which find warm caches', () => {
    const physical = play('none/private-efi-pgd/trap-handler')
    const virtual = play('none/legacy-virtual/trap-handler')
    expect(physical.result.cost!.price).toMatchObject({ times: 1_000_000, cr3Writes: 2_000_000 })
    expect(virtual.result.cost!.price).toEqual({
      times: 1_000_000,
      cr3Writes: 0,
      globalFlushes: 0,
      tlbMisses: 0,
      walkReferences: 0,
    })
    expect(virtual.result.services[0]).toEqual({
      name: 'GetTime × 1,000,000',
      status: '0 CR3 writes, 0 global flushes, 0 TLB misses, 0 page-table reads',
      ok: true,
      kernel: 'first kernel',
    })
    const calls = virtual.events.filter(
      (event) => event.kind === 'call' && event.name === 'GetTime',
    )
    expect(calls.length).toBeLessThan(20)
  })
})

describe('CPUs that track branches and separate halves of the address space', () => {
  test('are no matter for a kernel that switches both off in calls, SetVirtualAddressMap among them', () => {
    expect(on('none/linux-7.1/services').result.outcome).toBe('ok')
    expect(on('none/linux-7.1/interrupts').result.outcome).toBe('ok')
  })

  test('stop SetVirtualAddressMap where only later calls are thought of', () => {
    const trace = on('none/linux-6.12:ibt=calls/boot', { comesUp: false })
    expect(findingOf(trace, 'H13')).toMatchObject({ phase: 'efi' })
    expect(trace.result.reason).toContain('SetVirtualAddressMap')
    expect(on('none/linux-6.1/boot').result.outcome).toBe('ok')
  })

  test('make every access of firmware to its physical addresses a fault, once the kernel has booted', () => {
    expect(on('none/linux-7.1:lass=kept/boot').result.outcome).toBe('ok')
    const trace = on('none/linux-7.1:lass=kept/services')
    expect(trace.result.outcome).toBe('fault')
    expect(trace.result.reason).toContain('CR4.LASS is set')
  })
})

test('an early call and a later one that end otherwise are told of', () => {
  const trace = play(`H21/linux-6.1/early-call`, undefined, {
    plugins: [
      {
        name: 'late-clock',
        apiVersion: 1,
        quirks: [
          {
            id: 'H21',
            name: 'late-clock',
            title: 'has no clock before SetVirtualAddressMap',
            sources: ['this test'],
            hooks: {
              beforeService: (call) =>
                call.service === 'GetTime' && call.rip < 2n ** 47n
                  ? 0x8000_0000_0000_0007n
                  : undefined,
            },
          },
        ],
      },
    ],
  })
  expect(findingOf(trace, 'H21').message).toBe(
    'GetTime answered EFI_DEVICE_ERROR before the runtime services were set up, and EFI_SUCCESS after',
  )
  expect(trace.result.id).toBe(`${MACHINE}/H21/linux-6.1/early-call`)
})

/** What H14 says of a call that the kernel makes for it, and what the process has afterwards. */
function calledFor(strategy: string): { said: string | undefined; mxcsr: number } {
  let mxcsr = 0
  const { result } = play(`none/${strategy}/rounding`, {
    name: 'rounding',
    title: 'a call while a process has another rounding mode',
    steps: [
      {
        name: 'a call',
        run: (context) => {
          context.boot()
          const { bootCpu } = context.machine
          bootCpu.mxcsr = 0x7f80
          context.call(context.services().getTime())
          mxcsr = bootCpu.mxcsr
        },
      },
    ],
  })
  return { said: result.findings.find(({ rule }) => rule === 'H14')?.message, mxcsr }
}

describe('a process that rounds towards zero', () => {
  test('has firmware do so, too, under kernels that keep the state and load no other', () => {
    for (const strategy of ['legacy-virtual', 'private-efi-pgd', 'linux-5.4']) {
      expect(calledFor(strategy)).toEqual({
        said: 'GetTime is called with MXCSR 0x7f80 instead of 0x1f80',
        mxcsr: 0x7f80,
      })
    }
  })

  test('is no matter for Linux since 5.8, Xen and the BSDs, and has its own back', () => {
    for (const strategy of ['linux-6.1', 'xen', 'freebsd', 'openbsd', 'netbsd']) {
      expect(calledFor(strategy)).toEqual({ said: undefined, mxcsr: 0x7f80 })
    }
  })
})
