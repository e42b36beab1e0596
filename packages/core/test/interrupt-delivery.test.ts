import { describe, expect, test } from 'vitest'
import {
  BROADWELL,
  type Cpu,
  Cr4,
  deliverInterrupt,
  DescriptorFault,
  Efer,
  exceptionEvent,
  loadTaskRegister,
  Machine,
  type PageFault,
  PageTableBuilder,
  phys,
  returnFromInterrupt,
  TripleFault,
  Vector,
  virt,
} from '../src/index.ts'

const IDT = 0xffff_8000_0000_0000n
const GDT = 0xffff_8000_0000_1000n
const TSS = 0xffff_8000_0000_2000n
const CODE = 0xffff_8000_0001_0000n
const STACK_TOP = 0xffff_8000_0002_1000n
const RSP0_TOP = 0xffff_8000_0003_1000n
const IST1_TOP = 0xffff_8000_0004_1000n
const USER_STACK_TOP = 0x7fff_0000_1000n
const KERNEL_CS = 0x08
const USER_CS = 0x18 | 3
const TSS_SELECTOR = 0x20

interface World {
  readonly machine: Machine
  readonly cpu: Cpu
  readonly tables: PageTableBuilder
  /** The handlers that ran, with their frame and error code. */
  readonly ran: { readonly name: string; readonly frame: bigint; readonly errorCode: bigint }[]
  /** Puts a gate for a handler of this name into the IDT. */
  readonly handle: (vector: number, name: string, options?: { ist?: number; dpl?: number }) => void
}

/** A CPU in 64-bit mode with an IDT of 32 vectors, a GDT, and a TSS with RSP0 and IST1. */
function world(): World {
  const machine = new Machine({ features: BROADWELL })
  const cpu = machine.bootCpu
  let nextFrame = 0x200
  const tables = new PageTableBuilder(machine.memory, phys(0x10_0000), () => nextFrame++)
  for (const [at, start] of [
    IDT,
    GDT,
    TSS,
    CODE,
    STACK_TOP - 0x1000n,
    RSP0_TOP - 0x1000n,
    IST1_TOP - 0x1000n,
  ].entries()) {
    tables.mapRange(virt(start), phys(0x40_0000 + at * 4096), 4096, { executable: true })
  }
  tables.mapRange(virt(USER_STACK_TOP - 0x1000n), phys(0x50_0000), 4096, { user: true })
  cpu.writeCr3(tables.root)
  cpu.writeEfer(cpu.efer | Efer.NXE)
  cpu.rsp = STACK_TOP
  cpu.cs = KERNEL_CS
  cpu.idtr = { base: IDT, limit: 32 * 16 - 1 }
  cpu.gdtr = { base: GDT, limit: 0x2f }
  cpu.write64(GDT + 8n, 0x0020_9a00_0000_0000n)
  cpu.write64(GDT + 0x18n, 0x0020_fa00_0000_0000n)
  cpu.write64(
    GDT + 0x20n,
    0x67n | ((TSS & 0xff_ffffn) << 16n) | (0x89n << 40n) | ((TSS & 0xff00_0000n) << 32n),
  )
  cpu.write64(GDT + 0x28n, TSS >> 32n)
  cpu.write64(TSS + 4n, RSP0_TOP)
  cpu.write64(TSS + 0x24n, IST1_TOP)
  loadTaskRegister(cpu, TSS_SELECTOR)
  const ran: World['ran'][number][] = []
  let nextHandler = CODE
  const handle: World['handle'] = (vector, name, { ist = 0, dpl = 0 } = {}) => {
    const gate = machine.gates.bind({
      name,
      image: 'kernel',
      run: ({ args: [frame, errorCode] }) => {
        ran.push({ name, frame: frame!, errorCode: errorCode! })
        return 0n
      },
    })
    cpu.writeBytes(nextHandler, gate)
    writeGate(cpu, vector, nextHandler, { ist, dpl })
    nextHandler += 16n
  }
  return { machine, cpu, tables, ran, handle }
}

function writeGate(
  cpu: Cpu,
  vector: number,
  offset: bigint,
  { ist = 0, dpl = 0, type = 0xe, selector = KERNEL_CS } = {},
): void {
  const flags = BigInt(ist) | (BigInt(0x80 | (dpl << 5) | type) << 8n)
  const at = IDT + BigInt(vector * 16)
  cpu.write64(
    at,
    (offset & 0xffffn) |
      (BigInt(selector) << 16n) |
      (flags << 32n) |
      ((offset & 0xffff_0000n) << 32n),
  )
  cpu.write64(at + 8n, offset >> 32n)
}

function thrownBy(code: () => unknown): unknown {
  try {
    code()
  } catch (error) {
    return error
  }
  return undefined
}

function enterUser(cpu: Cpu): void {
  cpu.cpl = 3
  cpu.cs = USER_CS
  cpu.rsp = USER_STACK_TOP
}

describe('an interrupt', () => {
  test('runs its handler on the current stack and comes back', () => {
    const { cpu, handle, ran } = world()
    handle(0x1c, 'timer')
    cpu.interruptFlag = true
    cpu.interrupt({ vector: 0x1c, source: 'external' })
    expect(ran).toEqual([{ name: 'timer', frame: STACK_TOP - 40n, errorCode: 0n }])
    expect([cpu.rsp, cpu.cs, cpu.interruptFlag]).toEqual([STACK_TOP, KERNEL_CS, true])
  })

  test('pushes SS, RSP, RFLAGS, CS and RIP, and the error code below them', () => {
    const { cpu, handle } = world()
    handle(Vector.GP, 'general protection')
    cpu.ss = 0x10
    cpu.rsp = STACK_TOP - 24n
    const { frame } = deliverInterrupt(cpu, {
      vector: Vector.GP,
      errorCode: 0x18,
      source: 'exception',
    })
    // RSP is aligned down to 16 bytes first.
    expect(frame).toBe(STACK_TOP - 32n - 48n)
    expect([0, 1, 2, 3, 4, 5].map((word) => cpu.read64(frame + BigInt(word * 8)))).toEqual([
      0x18n,
      0n,
      BigInt(KERNEL_CS),
      // RF, as a fault is to be tried again.
      0x1_0002n,
      STACK_TOP - 24n,
      0x10n,
    ])
  })

  test('in user mode switches to RSP0, whose page the user may not touch', () => {
    const { cpu, handle } = world()
    handle(0x1c, 'timer')
    enterUser(cpu)
    const delivery = deliverInterrupt(cpu, { vector: 0x1c, source: 'external' })
    expect([cpu.cpl, cpu.rsp]).toEqual([0, RSP0_TOP - 40n])
    returnFromInterrupt(cpu, delivery)
    expect([cpu.cpl, cpu.cs, cpu.rsp]).toEqual([3, USER_CS, USER_STACK_TOP])
  })

  test('with an IST entry takes that stack, whatever the privilege', () => {
    const { cpu, handle } = world()
    handle(Vector.NMI, 'nmi', { ist: 1 })
    deliverInterrupt(cpu, { vector: Vector.NMI, source: 'nmi' })
    expect(cpu.rsp).toBe(IST1_TOP - 40n)
  })

  test('is masked by an interrupt gate while its handler runs', () => {
    const { cpu, handle } = world()
    handle(0x1c, 'timer')
    cpu.interruptFlag = true
    deliverInterrupt(cpu, { vector: 0x1c, source: 'external' })
    expect(cpu.interruptFlag).toBe(false)
  })

  test('by INT n from user mode needs a gate of that privilege', () => {
    const { cpu, handle, ran } = world()
    handle(3, 'breakpoint', { dpl: 3 })
    handle(4, 'overflow')
    handle(Vector.GP, 'general protection')
    enterUser(cpu)
    cpu.interrupt({ vector: 3, source: 'software' })
    cpu.interrupt({ vector: 4, source: 'software' })
    expect(ran.map(({ name, errorCode }) => [name, errorCode])).toEqual([
      ['breakpoint', 0n],
      ['general protection', BigInt(4 * 8 + 2)],
    ])
  })
})

describe('the accesses of a delivery', () => {
  test('go through the page tables: an IDT that is not mapped is a page fault, whose delivery fails too', () => {
    const { cpu, tables } = world()
    tables.unmapRange(virt(IDT), 4096)
    cpu.invlpg(IDT)
    const failed = (): unknown => cpu.interrupt({ vector: Vector.NMI, source: 'nmi' })
    expect(failed).toThrow(TripleFault)
    expect(cpu.cr2).toBe(IDT + BigInt(Vector.DF * 16))
  })

  test('are a supervisor’s, and pass SMAP only on supervisor pages, whatever AC is', () => {
    const { cpu, handle, ran } = world()
    handle(0x1c, 'timer')
    handle(Vector.PF, 'page fault', { ist: 1 })
    cpu.writeCr4(cpu.cr4 | Cr4.SMAP)
    cpu.alignmentCheck = true
    cpu.rsp = USER_STACK_TOP
    cpu.interrupt({ vector: 0x1c, source: 'external' })
    expect(ran).toEqual([{ name: 'page fault', frame: IST1_TOP - 48n, errorCode: 3n }])
    expect(cpu.cr2).toBe(USER_STACK_TOP - 8n)
  })

  test('set the accessed flags of their pages', () => {
    const { cpu, handle, tables } = world()
    handle(0x1c, 'timer')
    tables.changeRange(virt(IDT), 4096, (low, high) => [low & ~0x20, high])
    cpu.invlpg(IDT)
    deliverInterrupt(cpu, { vector: 0x1c, source: 'external' })
    let accessed = 0
    tables.changeRange(virt(IDT), 4096, (low, high) => {
      accessed = low & 0x20
      return [low, high]
    })
    expect(accessed).toBe(0x20)
  })
})

describe('a fault while an event is delivered', () => {
  test('takes the place of an interrupt', () => {
    const { cpu, handle, ran } = world()
    handle(Vector.NP, 'not present')
    writeGate(cpu, 0x1c, CODE, { type: 0xe })
    const low = cpu.read64(IDT + BigInt(0x1c * 16))
    cpu.write64(IDT + BigInt(0x1c * 16), low & ~(1n << 47n))
    cpu.interrupt({ vector: 0x1c, source: 'external' })
    expect(ran).toEqual([
      { name: 'not present', frame: STACK_TOP - 48n, errorCode: BigInt(0x1c * 8 + 3) },
    ])
  })

  test.each([
    ['a page fault in a page fault', Vector.PF, 'double fault'],
    ['a page fault in a general protection fault', Vector.GP, 'page fault'],
    ['a page fault in an interrupt', 0x1c, 'page fault'],
  ])('%s is a %s', (_, vector, handler) => {
    const { cpu, handle, ran } = world()
    handle(vector, 'never reached')
    if (handler === 'page fault') handle(Vector.PF, 'page fault', { ist: 1 })
    handle(Vector.DF, 'double fault', { ist: 1 })
    cpu.rsp = 0xffff_9000_0000_0000n
    const source = vector === 0x1c ? 'external' : 'exception'
    cpu.interrupt({ vector, source, ...(source === 'exception' ? { errorCode: 0 } : {}) })
    expect(ran.map(({ name }) => name)).toEqual([handler])
  })

  test('a contributory fault in a contributory fault is a double fault', () => {
    const { cpu, handle, ran } = world()
    handle(Vector.DF, 'double fault', { ist: 1 })
    // No gate for #GP, so that its delivery is #GP again.
    cpu.interrupt({ vector: Vector.GP, errorCode: 0, source: 'exception' })
    expect(ran.map(({ name }) => name)).toEqual(['double fault'])
  })

  test('of a double fault is a triple fault, with all that went wrong', () => {
    const { cpu, machine, handle } = world()
    handle(Vector.PF, 'page fault')
    handle(Vector.DF, 'double fault')
    cpu.rsp = 0xffff_9000_0000_0000n
    const fault = thrownBy(() => cpu.read8(0n)) as PageFault
    const triple = thrownBy(() => cpu.interrupt(exceptionEvent(fault)))
    expect(triple).toBeInstanceOf(TripleFault)
    expect((triple as TripleFault).failures.map(({ mnemonic }) => mnemonic)).toEqual(['#PF', '#PF'])
    expect(machine.log.events.at(-1)).toMatchObject({ kind: 'triple-fault', vector: Vector.PF })
  })
})

describe('LTR', () => {
  test('marks the descriptor busy, and a busy one cannot be loaded', () => {
    const { cpu } = world()
    expect(cpu.taskRegister).toEqual({ selector: TSS_SELECTOR, base: TSS, limit: 0x67 })
    expect((cpu.read64(GDT + 0x20n) >> 40n) & 0xfn).toBe(0xbn)
    expect(() => {
      loadTaskRegister(cpu, TSS_SELECTOR)
    }).toThrow(DescriptorFault)
  })
})

test('in real-address mode comes from a table of far pointers at the IDTR', () => {
  const { bootCpu: cpu, memory } = new Machine({ start: 'reset' })
  cpu.rsp = 0x1000n
  cpu.rip = 0x1234n
  cpu.cs = 0x40
  cpu.interruptFlag = true
  memory.write32(0x21 * 4, 0x0070_0005)
  const delivery = deliverInterrupt(cpu, { vector: 0x21, source: 'software', returnRip: 0x1236n })
  expect(delivery).toMatchObject({ handler: 0x705n, rip: 5n, frame: 0xffan })
  expect([cpu.cs, cpu.rsp, cpu.interruptFlag]).toEqual([0x70, 0xffan, false])
  expect([0, 2, 4].map((at) => memory.read16(0xffa + at))).toEqual([0x1236, 0x40, 0x202])
})
