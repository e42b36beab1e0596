import { PageFault, phys, virt } from '@trapdoor/core'
import { EfiStatus } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { createKernelHooks, EfiServices, KernelError, type RuntimeCall } from '../src/index.ts'
import { boot, type BootChoice, type Booted, flat, messages, strategyOf } from './booted.ts'
import { gateOf, RUNTIME_DATA } from './small-machine.ts'

/** A GetTime that is ready to be called from CPU `cpu`. */
function prepared({ kernel, machine }: Booted, cpu = 0): RuntimeCall {
  return new EfiServices(kernel, machine.cpus[cpu]!, 'stack').getTime().call!
}

function codeOf(work: () => unknown): string | undefined {
  try {
    work()
  } catch (error) {
    if (error instanceof KernelError) return error.code
    throw error
  }
  return undefined
}

/** Reads eight words of runtime data, one a page. */
function readingFirmware(choice: BootChoice = {}): Booted {
  return boot({
    ...choice,
    services: {
      GetTime: ({ cpu }) => {
        for (let page = 0n; page < 8n; page++) cpu.read64(BigInt(RUNTIME_DATA) + page * 4096n)
        return EfiStatus.SUCCESS
      },
    },
  })
}

describe('the steps of a call', () => {
  test('come once each, in their order', () => {
    const booted = boot()
    const call = prepared(booted)
    expect(codeOf(() => call.execute())).toBe('KERNEL_WRONG_PHASE')
    expect(codeOf(() => call.leave())).toBe('KERNEL_WRONG_PHASE')
    call.enter()
    expect(codeOf(() => call.enter())).toBe('KERNEL_WRONG_PHASE')
    expect(codeOf(() => call.leave())).toBe('KERNEL_WRONG_PHASE')
    call.execute()
    expect(codeOf(() => call.execute())).toBe('KERNEL_WRONG_PHASE')
    call.leave()
    expect(codeOf(() => call.leave())).toBe('KERNEL_WRONG_PHASE')
    expect(codeOf(() => call.run())).toBe('KERNEL_WRONG_PHASE')
    expect(booted.calls).toHaveLength(1)
  })

  test('are each told to those who watch, with the CPU as it is then', () => {
    const hooks = createKernelHooks()
    const seen: [string, number][] = []
    hooks.callEntered.tap('test', ({ cpu }) => seen.push(['entered', cpu.cr3]))
    hooks.callReturned.tap('test', ({ cpu }) => seen.push(['returned', cpu.cr3]))
    hooks.callLeft.tap('test', ({ cpu }) => seen.push(['left', cpu.cr3]))
    const booted = boot({ hooks })
    const own = booted.machine.bootCpu.cr3
    const inside = booted.kernel.roots.find(({ name }) => name === 'flat')!.root
    prepared(booted).run()
    expect(seen).toEqual([
      ['entered', inside],
      ['returned', inside],
      ['left', own],
    ])
  })

  test('of two CPUs may come between each other', () => {
    const booted = boot({ cpus: 2 })
    const [first, second] = booted.machine.cpus
    const own = [first!.cr3, second!.cr3]
    const calls = [prepared(booted, 0), prepared(booted, 1)]
    for (const call of calls) call.enter()
    for (const call of calls) call.execute()
    for (const call of calls) call.leave()
    expect([first!.cr3, second!.cr3]).toEqual(own)
    expect(booted.calls.map(({ cpu }) => cpu)).toEqual([0, 1])
  })

  test('know what the kernel had before, and count what the CPU did since', () => {
    const booted = boot()
    const { bootCpu: cpu } = booted.machine
    const call = prepared(booted)
    expect(call.before).toMatchObject({ cr3: cpu.cr3, interruptFlag: true })
    call.run()
    expect(call.counters).toMatchObject({ cr3Writes: 2, globalFlushes: 0 })
    expect(cpu.interruptFlag).toBe(true)
  })
})

test('a call returns what the firmware put into RAX, and has no status before', () => {
  const booted = boot({ services: { GetTime: () => EfiStatus.DEVICE_ERROR } })
  const call = prepared(booted)
  expect(call.status).toBe(EfiStatus.NOT_READY)
  expect(call.run()).toBe(EfiStatus.DEVICE_ERROR)
  expect(call.status).toBe(EfiStatus.DEVICE_ERROR)
})

test('a strategy may say where a service is called', () => {
  const elsewhere = strategyOf('physical', () => ({
    ...flat.create({}),
    functionAddress: () => BigInt(gateOf('SetTime')),
  }))
  const booted = boot({ strategies: [elsewhere] })
  prepared(booted).run()
  expect(booted.calls.map(({ service }) => service)).toEqual(['SetTime'])
})

test('without a strategy’s tables a physical address is a fault in the low half', () => {
  const booted = boot({ strategies: [strategyOf('physical', () => ({}))] })
  const call = prepared(booted)
  expect(() => call.run()).toThrow(PageFault)
  expect(booted.machine.bootCpu.cr2).toBe(BigInt(gateOf('GetTime')))
})

describe('what the firmware touches', () => {
  test('is noted in order, a repetition once', () => {
    const booted = readingFirmware()
    const call = prepared(booted)
    call.run()
    const data = call.touches.filter(
      ({ address, access }) => access === 'read' && address < 2n ** 47n,
    )
    expect(data.map(({ frame }) => frame)).toEqual(
      [0, 1, 2, 3, 4, 5, 6, 7].map((page) => RUNTIME_DATA / 4096 + page),
    )
    const code = call.touches.find(({ access }) => access === 'execute')
    expect(code).toMatchObject({ address: BigInt(gateOf('GetTime')) })
  })

  test('is not noted once it has returned', () => {
    const booted = readingFirmware()
    const call = prepared(booted)
    call.run()
    const before = call.touches.length
    booted.machine.bootCpu.read8(booted.kernel.tables.directMapAddress(0x500_0000))
    expect(call.touches).toHaveLength(before)
  })
})

describe('an NMI inside a call', () => {
  test('arrives after so many accesses of the firmware, once, on the firmware’s tables', () => {
    const booted = readingFirmware()
    const call = prepared(booted)
    const arrivals: { touched: number; cr3: number }[] = []
    call.interruptAfter(4, ({ cpu, touches }) => {
      arrivals.push({ touched: touches.length, cr3: cpu.cr3 })
    })
    call.run()
    const flatRoot = booted.kernel.roots.find(({ name }) => name === 'flat')!.root
    expect(arrivals).toEqual([{ touched: 4, cr3: flatRoot }])
    expect(call.touches.length).toBeGreaterThan(4)
  })

  test('leaves no trace of what its handler touches', () => {
    const booted = readingFirmware()
    const call = prepared(booted)
    const address = booted.kernel.tables.directMapAddress(0x500_0000)
    call.interruptAfter(4, ({ cpu }) => cpu.read8(address))
    call.run()
    expect(call.touches.map((touch) => touch.address)).not.toContain(address)
  })

  test('may end the call for good', () => {
    const booted = readingFirmware()
    const call = prepared(booted)
    call.interruptAfter(4, () => {
      throw new TypeError('the handler panicked')
    })
    expect(() => call.run()).toThrow('the handler panicked')
    expect(codeOf(() => call.leave())).toBe(undefined)
  })

  test('comes no more where the call was shorter', () => {
    const booted = boot()
    const call = prepared(booted)
    let arrived = false
    call.interruptAfter(1000, () => (arrived = true))
    call.run()
    expect(arrived).toBe(false)
  })
})

describe('a NULL dereference inside a call', () => {
  /** A table with page 0 beside the kernel's half. */
  const withPageZero = strategyOf('physical', () => ({
    ...flat.create({}),
    enter: ({ cpu, kernel }) => {
      const table = kernel.newPageTable('with page 0')
      table.mapRange(virt(0), phys(0), 4096)
      kernel.tables.copyRootEntries(table, 256, 512)
      cpu.writeCr3(table.root)
    },
  }))

  test('is caught where page 0 is not mapped, and the call goes on', () => {
    const hooks = createKernelHooks()
    const told: boolean[] = []
    hooks.nullRead.tap('test', (_call, caught) => told.push(caught))
    const booted = boot({ hooks })
    const call = prepared(booted)
    call.enter()
    expect(call.dereferenceNull()).toBe(true)
    call.execute()
    call.leave()
    expect(told).toEqual([true])
    expect(messages(booted.machine.log.events, 'kernel').at(-1)).toMatch(
      /^BUG: unable to handle kernel NULL pointer dereference/,
    )
  })

  test('goes through where page 0 is mapped', () => {
    const hooks = createKernelHooks()
    const told: boolean[] = []
    hooks.nullRead.tap('test', (_call, caught) => told.push(caught))
    const booted = boot({ hooks, strategies: [withPageZero] })
    const call = prepared(booted)
    call.enter()
    expect(call.dereferenceNull()).toBe(false)
    expect(told).toEqual([false])
  })
})

const enabling = (choice: BootChoice = {}): Booted =>
  boot({
    ...choice,
    services: {
      GetTime: ({ cpu }) => {
        cpu.interruptFlag = true
        return EfiStatus.SUCCESS
      },
    },
  })

describe('firmware that returns with interrupts on', () => {
  test('has an interrupt handled on its page tables', () => {
    const hooks = createKernelHooks()
    const taken: string[] = []
    hooks.interruptedInside.tap('test', ({ service }) => taken.push(service))
    const booted = enabling({ hooks })
    prepared(booted).run()
    expect(taken).toEqual(['GetTime'])
    expect(messages(booted.machine.log.events, 'kernel').at(-1)).toBe(
      'timer interrupt inside GetTime, which ran with interrupts off',
    )
  })

  test('kills the kernel where the handler’s memory is not in the tables of the call', () => {
    // The direct map and the kernel's image, without vmalloc space.
    const incomplete = strategyOf('physical', () => {
      const path = flat.create({})
      return {
        ...path,
        setup: (kernel) => {
          path.setup?.(kernel)
          const { root } = kernel.roots.at(-1)!
          kernel.machine.memory.write64(root + 402 * 8, 0n)
        },
      }
    })
    const booted = enabling({ strategies: [incomplete] })
    // What the kernel itself used is still in the TLB, being global.
    booted.kernel.tables.flushAll()
    expect(() => prepared(booted).run()).toThrow(PageFault)
    expect(booted.machine.bootCpu.cr2 >> 39n).toBe(0xffff_c900_0000_0000n >> 39n)
  })

  test('finds nobody interested who had them on anyway', () => {
    const hooks = createKernelHooks()
    let taken = 0
    hooks.interruptedInside.tap('test', () => taken++)
    const open = strategyOf('physical', () => {
      const path = flat.create({})
      return {
        ...path,
        enter: (call) => {
          path.enter?.(call)
          call.cpu.interruptFlag = true
        },
      }
    })
    prepared(enabling({ hooks, strategies: [open] })).run()
    expect(taken).toBe(0)
  })
})
