import type { ScenarioContext } from '@trapdoor/harness'
import { describe, expect, test } from 'vitest'
import { bootAndCall, findingOf, play, rulesOf } from './played.ts'

test('where nothing is wrong no rule has anything to say', async () => {
  const trace = await play({
    run: (context) => {
      bootAndCall(context)
      context.inspectTables()
    },
  })
  expect(trace.result.findings).toEqual([])
  expect(trace.result.outcome).toBe('ok')
})

/** Two CPUs inside at once: in, in, out, out. */
function overlap(context: ScenarioContext): void {
  context.boot()
  const calls = [0, 1].map((cpu) => context.services('stack', cpu).getTime())
  for (const { call } of calls) call!.enter()
  for (const { call } of calls) call!.execute()
  for (const { call } of calls) call!.leave()
  for (const call of calls) context.record(call)
}

describe('H1', () => {
  test('reports a CPU that came back with the CR3 of another', async () => {
    const trace = await play({ strategy: 'one-to-one:saved=shared', cpus: 2, run: overlap })
    expect(trace.result.outcome).toBe('corrupt')
    expect(findingOf(trace, 'H1')).toMatchObject({
      severity: 'error',
      service: 'GetTime',
      message: 'after GetTime CPU 0 runs on mm of task 1 instead of mm of task 0',
    })
  })

  test('says nothing where each CPU has its own back', async () => {
    const trace = await play({ cpus: 2, run: overlap })
    expect(findingOf(trace, 'H1')).toBeUndefined()
  })

  test('says nothing of a shared place that nobody else used meanwhile', async () => {
    const trace = await play({ strategy: 'one-to-one:saved=shared' })
    expect(findingOf(trace, 'H1')).toBeUndefined()
  })

  test('calls a CPU hung that is left with interrupts off', async () => {
    const trace = await play({ strategy: 'one-to-one:saved=no-flag' })
    expect(trace.result.outcome).toBe('hang')
    expect(findingOf(trace, 'H1')?.message).toBe(
      'after GetTime CPU 0 has interrupts off, which were on before',
    )
  })

  test('calls it corruption where interrupts come on behind the caller’s back', async () => {
    const trace = await play({
      strategy: 'one-to-one:saved=flag-on',
      run: (context) => {
        context.boot()
        context.machine.bootCpu.interruptFlag = false
        context.call(context.services().getTime())
      },
    })
    expect(trace.result.outcome).toBe('corrupt')
    expect(findingOf(trace, 'H1')?.message).toMatch(/has interrupts on, which were off before$/)
  })
})

/** A NULL dereference inside a call that goes on. */
function dereference(context: ScenarioContext): void {
  context.boot()
  const prepared = context.services().getTime()
  prepared.call!.enter()
  prepared.call!.dereferenceNull()
  prepared.call!.execute()
  prepared.call!.leave()
  context.record(prepared)
}

describe('H6', () => {
  test('reports a NULL dereference that nothing caught', async () => {
    const trace = await play({ strategy: 'one-to-one:page0=mapped', run: dereference })
    expect(findingOf(trace, 'H6')).toMatchObject({
      actor: 'kernel (NMI handler)',
      access: { kind: 'read', address: '0x0000000000000000', errorCode: null },
      physical: { address: '0x0000000000000000' },
    })
    expect(trace.result.outcome).toBe('ok')
  })

  test('says nothing of one that faulted', async () => {
    expect(findingOf(await play({ run: dereference }), 'H6')).toBeUndefined()
  })

  test('says nothing of a mapped page 0 that nobody touches by mistake', async () => {
    expect(findingOf(await play({ strategy: 'one-to-one:page0=mapped' }), 'H6')).toBeUndefined()
  })
})

/** A boot, a call and a look at the tables, on a map with cacheable and uncacheable runtime memory inside the direct map. */
function inspectOn(strategy: string): ReturnType<typeof play> {
  return play({
    strategy,
    map: 'uncached-data',
    run: (context) => {
      bootAndCall(context)
      context.inspectTables()
    },
  })
}

describe('H7', () => {
  test('reports memory that the call’s tables have uncached and the direct map cached', async () => {
    const trace = await inspectOn('one-to-one:uncached=here')
    const finding = findingOf(trace, 'H7')
    expect(finding).toMatchObject({
      severity: 'warning',
      message: '0x0000000009300000 is WB in swapper_pg_dir and UC in one_to_one',
      access: { address: '0x0000000009300000' },
      physical: { address: '0x0000000009300000' },
    })
    // The walk is the one of the uncached mapping: its leaf has PCD.
    const leaf = finding!.walk.at(-1)!
    expect(leaf.entry).toBe('PTE')
    expect(BigInt(leaf.value) & 0x10n).toBe(0x10n)
  })

  test('says nothing where both have it uncached', async () => {
    expect(findingOf(await inspectOn('one-to-one:uncached=everywhere'), 'H7')).toBeUndefined()
  })

  test('says nothing where both have it cached, wrong as that is', async () => {
    expect(findingOf(await inspectOn('one-to-one:uncached=nowhere'), 'H7')).toBeUndefined()
  })

  test('says nothing before somebody looks', async () => {
    const trace = await play({ strategy: 'one-to-one:uncached=here', map: 'uncached-data' })
    expect(findingOf(trace, 'H7')).toBeUndefined()
  })
})

describe('H9', () => {
  test('reports a translation of the firmware’s that outlives the call, once however often', async () => {
    const trace = await play({
      strategy: 'one-to-one:leaves=global',
      run: (context) => {
        bootAndCall(context)
        context.call(context.services().getTime())
      },
    })
    const finding = findingOf(trace, 'H9')
    expect(finding?.message).toMatch(
      /^after GetTime CPU 0 still translates 0x00000000092\w+, which its page tables do not map \(2 times\)$/,
    )
    expect(finding?.explanation).toContain('as a global translation')
    expect(trace.result.outcome).toBe('ok')
  })

  test('says nothing where a write to CR3 takes them away', async () => {
    expect(findingOf(await play({}), 'H9')).toBeUndefined()
  })

  test('says nothing of global translations that the kernel has itself', async () => {
    expect(findingOf(await play({ strategy: 'legacy-virtual' }), 'H9')).toBeUndefined()
  })
})

/** A boot, a call and a look at the tables. */
const inspected = (strategy: string): ReturnType<typeof play> =>
  play({
    strategy,
    run: (context) => {
      bootAndCall(context)
      context.inspectTables()
    },
  })

describe('H10', () => {
  test('counts what is writable and executable while firmware runs', async () => {
    const finding = findingOf(await inspected('one-to-one:rights=all'), 'H10')
    // 0x60 pages of data, 0x20 of code, 2 MiB of flash.
    expect(finding).toMatchObject({
      severity: 'info',
      message: expect.stringMatching(/^2\.5 MiB are writable and executable in one_to_one/),
      access: { kind: 'execute', address: '0x0000000009100000' },
    })
  })

  test('says nothing where code is read-only and data cannot be executed', async () => {
    expect(findingOf(await inspected('one-to-one'), 'H10')).toBeUndefined()
  })
})

describe('H15', () => {
  test('reports firmware that returns with interrupts on', async () => {
    const trace = await play({
      habit: {
        afterService: (status, call) => {
          call.cpu.interruptFlag = true
          return status
        },
      },
    })
    expect(findingOf(trace, 'H15')).toMatchObject({
      service: 'GetTime',
      message:
        'GetTime returned with interrupts on, and one was taken before the kernel had switched back',
    })
    expect(rulesOf(trace)).toEqual(['H15'])
  })

  test('says nothing of firmware that leaves them alone', async () => {
    expect(findingOf(await play({}), 'H15')).toBeUndefined()
  })
})

/** Sets the clock from a time in vmalloc space, by whose global translation the kernel has just written it. */
function setTimeFromVmalloc(context: ScenarioContext): void {
  context.boot()
  const time = context.call(context.services().getTime())!
  context.call(context.services('vmalloc').setTime(time))
}

describe('H16', () => {
  test('takes no translation that is left in the TLB for one of the call’s tables', async () => {
    const trace = await play({ strategy: 'one-to-one:half=no-vmalloc', run: setTimeFromVmalloc })
    expect(trace.result.services.map(({ ok }) => ok)).toEqual([true, true])
    expect(trace.result.outcome).toBe('fault')
    expect(findingOf(trace, 'H16')).toMatchObject({
      severity: 'error',
      service: 'SetTime',
      message: expect.stringMatching(
        /^SetTime gets argument 1 at 0xffffc9\w+, which the kernel has at 0x\w+, and the page tables of the call nowhere$/,
      ),
      explanation: expect.stringContaining('the kernel’s own access had left in the TLB'),
    })
  })

  test('does not count what the firmware leaves alone as harm', async () => {
    const trace = await play({
      strategy: 'one-to-one:half=no-vmalloc',
      run: setTimeFromVmalloc,
      habit: { beforeService: ({ service }) => (service === 'SetTime' ? 0n : undefined) },
    })
    expect(trace.result.outcome).toBe('ok')
    expect(findingOf(trace, 'H16')?.explanation).toBe('The firmware has not touched it this time.')
  })

  test('tells where the call’s tables lead to instead', async () => {
    const trace = await play({
      strategy: 'one-to-one:half=vmalloc-elsewhere',
      run: setTimeFromVmalloc,
    })
    expect(findingOf(trace, 'H16')?.message).toMatch(
      /, and the page tables of the call at 0x00000000083\w+$/,
    )
  })

  test('says nothing where the whole half is there', async () => {
    const trace = await play({ run: setTimeFromVmalloc })
    expect(trace.result.services.map(({ ok }) => ok)).toEqual([true, true])
    expect(findingOf(trace, 'H16')).toBeUndefined()
  })
})

/** A page of boot-services data, which is page cache once the kernel runs. */
const BOOT_DATA = 0x830_0000n

describe('H18', () => {
  test('calls it corruption where firmware writes to what has become the kernel’s', async () => {
    const trace = await play({
      strategy: 'one-to-one:regions=all',
      habit: {
        beforeService: (call) => {
          call.write64(BOOT_DATA, 1n)
          return undefined
        },
      },
    })
    expect(trace.result.outcome).toBe('corrupt')
    expect(findingOf(trace, 'H18')).toMatchObject({
      severity: 'error',
      message: expect.stringMatching(
        /writes to 0x0000000008300000 inside GetTime.*page cache of the first kernel/,
      ),
      access: { kind: 'write' },
      physical: { owner: 'page cache of the first kernel' },
    })
  })

  test('warns where it only reads', async () => {
    const trace = await play({
      strategy: 'one-to-one:regions=all',
      habit: {
        beforeService: (call) => {
          call.read64(BOOT_DATA)
          return undefined
        },
      },
    })
    expect(trace.result.outcome).toBe('ok')
    expect(findingOf(trace, 'H18')).toMatchObject({
      severity: 'warning',
      message: expect.stringMatching(
        /reads 0x0000000008300000 inside GetTime.*page cache of the first kernel/,
      ),
    })
  })

  test('says nothing of arguments, wherever the kernel has them', async () => {
    const trace = await play({
      run: (context) => {
        context.boot()
        for (const place of ['stack', 'kmalloc', 'module', 'vmalloc'] as const) {
          context.call(context.services(place).getTime())
        }
      },
    })
    expect(findingOf(trace, 'H18')).toBeUndefined()
    expect(trace.result.services).toHaveLength(4)
  })

  test('says nothing of a machine whose boot services are still on', async () => {
    const trace = await play({
      habit: {
        exitBootServices: (call) => {
          call.write64(BOOT_DATA, 1n)
        },
      },
    })
    expect(findingOf(trace, 'H18')).toBeUndefined()
  })
})
