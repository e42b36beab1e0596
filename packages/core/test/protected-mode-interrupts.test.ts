import { describe, expect, test } from 'vitest'
import {
  type Cpu,
  Cr0,
  Cr4,
  deliverInterrupt,
  DescriptorFault,
  flatSegment,
  loadTaskRegister,
  Machine,
  PAE,
  PageTableBuilder,
  phys,
  returnFromInterrupt,
  Segment,
  TripleFault,
  Vector,
  virt,
} from '../src/index.ts'

/** Where the tables and stacks are: their linear addresses in a kernel's half, and 3 GiB below the physical ones. */
const IDT = 0xc040_0000n
const GDT = 0xc040_1000n
const TSS = 0xc040_2000n
const CODE = 0xc040_3000n
const STACK_TOP = 0xc040_5000n
const ESP0_TOP = 0xc040_6000n
const USER_STACK_TOP = 0x40_8000n
const OFFSET = 0xc000_0000n
const KERNEL_CS = 0x60
const KERNEL_DS = 0x68
const USER_CS = 0x73
const USER_DS = 0x7b
const TSS_SELECTOR = 0x80
/** NMI, #DF, #PF. */
const HANDLED = [Vector.NMI, Vector.DF, Vector.PF, 0x80]

function gateOf(vector: number, privilege = 0): bigint {
  const entry = CODE + BigInt(vector * 4)
  const type = 0x8en | (BigInt(privilege) << 5n)
  return (
    (entry & 0xffffn) |
    (BigInt(KERNEL_CS) << 16n) |
    (type << 40n) |
    (((entry >> 16n) & 0xffffn) << 48n)
  )
}

/** A CPU of a 32-bit kernel: PAE paging, its tables above 3 GiB, and below 4 MiB of user memory. */
function world(): Cpu {
  const machine = new Machine({ start: 'reset' })
  const { bootCpu: cpu } = machine
  let frame = 0x200
  const tables = new PageTableBuilder(machine.memory, phys(0x10_0000), () => frame++, { mode: PAE })
  tables.mapRange(virt(IDT), phys(Number(IDT - OFFSET)), 0x6000, { executable: true })
  tables.mapRange(virt(USER_STACK_TOP - 0x1000n), phys(0x50_0000), 0x1000, { user: true })
  cpu.writeCr0(Cr0.PE)
  cpu.writeCr4(Cr4.PAE)
  cpu.writeCr3(tables.root)
  cpu.writeEfer(0x800)
  cpu.writeCr0(Cr0.PE | Cr0.WP | Cr0.PG)
  cpu.rsp = STACK_TOP
  cpu.loadSegment(Segment.CS, flatSegment(KERNEL_CS, 'code-32'))
  cpu.loadSegment(Segment.SS, flatSegment(KERNEL_DS, 'data'))
  cpu.gdtr = { base: GDT, limit: 0xff }
  cpu.idtr = { base: IDT, limit: 256 * 8 - 1 }
  cpu.write64(GDT + BigInt(KERNEL_CS), 0x00cf_9b00_0000_ffffn)
  cpu.write64(GDT + BigInt(KERNEL_DS), 0x00cf_9300_0000_ffffn)
  const descriptor = 0x67n | ((TSS & 0xff_ffffn) << 16n) | (0x89n << 40n) | ((TSS >> 24n) << 56n)
  cpu.write64(GDT + BigInt(TSS_SELECTOR), descriptor)
  cpu.write32(TSS + 4n, Number(ESP0_TOP))
  cpu.write32(TSS + 8n, KERNEL_DS)
  loadTaskRegister(cpu, TSS_SELECTOR)
  for (const vector of HANDLED) cpu.write64(IDT + BigInt(vector * 8), gateOf(vector))
  return cpu
}

describe('an interrupt in protected mode', () => {
  test('pushes EFLAGS, CS and EIP on the stack that it finds, and IRET takes them back', () => {
    const cpu = world()
    cpu.interruptFlag = true
    const delivery = deliverInterrupt(cpu, { vector: Vector.NMI, source: 'nmi' })
    expect(delivery.handler).toBe(CODE + 8n)
    expect(delivery.frame).toBe(STACK_TOP - 12n)
    expect(cpu.rsp).toBe(STACK_TOP - 12n)
    expect(cpu.read32(delivery.frame + 4n)).toBe(KERNEL_CS)
    expect(cpu.read32(delivery.frame + 8n) & 0x202).toBe(0x202)
    expect([cpu.interruptFlag, cpu.cs, cpu.ss, cpu.cpl]).toEqual([false, KERNEL_CS, KERNEL_DS, 0])
    returnFromInterrupt(cpu, delivery)
    expect([cpu.rsp, cpu.interruptFlag]).toEqual([STACK_TOP, true])
  })

  test('has its error code below EIP', () => {
    const cpu = world()
    const event = { vector: Vector.PF, errorCode: 2, source: 'exception' } as const
    const delivery = deliverInterrupt(cpu, event)
    expect(cpu.read32(delivery.frame)).toBe(2)
    expect(delivery.returnFrame).toBe(delivery.frame + 4n)
    returnFromInterrupt(cpu, delivery)
    expect(cpu.rsp).toBe(STACK_TOP)
  })

  test('of a process goes to ESP0, with SS and ESP first, and back', () => {
    const cpu = world()
    cpu.cs = USER_CS
    cpu.ss = USER_DS
    cpu.cpl = 3
    cpu.rsp = USER_STACK_TOP
    const delivery = deliverInterrupt(cpu, { vector: Vector.NMI, source: 'nmi' })
    expect(delivery.frame).toBe(ESP0_TOP - 20n)
    expect([cpu.cpl, cpu.cs, cpu.ss]).toEqual([0, KERNEL_CS, KERNEL_DS])
    expect(cpu.read32(delivery.frame + 12n)).toBe(Number(USER_STACK_TOP))
    returnFromInterrupt(cpu, delivery)
    expect([cpu.cpl, cpu.cs, cpu.ss, cpu.rsp]).toEqual([3, USER_CS, USER_DS, USER_STACK_TOP])
  })

  test('that a program raises needs the gate’s privilege', () => {
    const cpu = world()
    cpu.cpl = 3
    cpu.cs = USER_CS
    const event = { vector: 0x80, source: 'software' } as const
    expect(deliverInterrupt(cpu, event).event.vector).toBe(Vector.DF)
    const other = world()
    other.write64(IDT + 0x400n, gateOf(0x80, 3))
    other.cpl = 3
    other.cs = USER_CS
    expect(deliverInterrupt(other, event).event.vector).toBe(0x80)
  })

  test('that comes while paging is off, with tables at linear addresses, is a triple fault', () => {
    const cpu = world()
    cpu.writeCr0(cpu.cr0 & ~Cr0.PG)
    cpu.rsp = STACK_TOP - OFFSET
    expect(() => deliverInterrupt(cpu, { vector: Vector.NMI, source: 'nmi' })).toThrow(TripleFault)
  })

  test('finds its tables while paging is off where they are at physical addresses', () => {
    const cpu = world()
    cpu.writeCr0(cpu.cr0 & ~Cr0.PG)
    cpu.rsp = STACK_TOP - OFFSET
    cpu.gdtr = { base: GDT - OFFSET, limit: 0xff }
    cpu.idtr = { base: IDT - OFFSET, limit: 0x7ff }
    expect(deliverInterrupt(cpu, { vector: Vector.NMI, source: 'nmi' }).handler).toBe(CODE + 8n)
  })
})

test('LTR reads a descriptor of 8 bytes, and marks it busy', () => {
  const cpu = world()
  expect(cpu.taskRegister).toEqual({ selector: TSS_SELECTOR, base: TSS, limit: 0x67 })
  expect(() => {
    loadTaskRegister(cpu, TSS_SELECTOR)
  }).toThrow(DescriptorFault)
  expect(() => {
    loadTaskRegister(cpu, 0xf8)
  }).toThrow(DescriptorFault)
})

test('a call passes its arguments on the stack, where no interrupt overwrites them', () => {
  const cpu = world()
  const seen: number[] = []
  const gate = cpu.machine.gates.bind({
    name: 'sum',
    image: 'test',
    run: ({ cpu: callee, args }) => {
      expect(args).toEqual([])
      seen.push(...[4n, 8n, 12n].map((offset) => callee.read32(callee.rsp + offset)))
      return 0xffff_ffff_0000_0007n
    },
  })
  cpu.writeBytes(CODE + 0x800n, gate)
  cpu.touchRecorder = () => {
    const recorder = cpu.touchRecorder
    cpu.touchRecorder = undefined
    returnFromInterrupt(cpu, deliverInterrupt(cpu, { vector: Vector.NMI, source: 'nmi' }))
    cpu.touchRecorder = recorder
  }
  expect(cpu.call(CODE + 0x800n, 1n, 0x1_0000_0002n, 3n)).toBe(7n)
  expect(seen).toEqual([1, 2, 3])
  expect(cpu.rsp).toBe(STACK_TOP)
})
