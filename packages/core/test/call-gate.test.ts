import { beforeEach, expect, test } from 'vitest'
import {
  GATE_SIZE,
  type GateCall,
  GateRegistry,
  InvalidOpcode,
  PAGE_SIZE,
  PageFault,
  phys,
  virt,
} from '../src/index.ts'
import { type MappedMachine, mappedMachine } from './mapped-machine.ts'

const STACK_TOP = 0x10_0000n
const CODE = 0x40_0000n
const CODE_PHYSICAL = 0x20_0000

let mapped: MappedMachine
let received: GateCall[]

/** Binds a gate and puts it at a physical address. */
function placeGate(name: string, physical: number, run: (call: GateCall) => bigint): void {
  const bytes = mapped.machine.gates.bind({ name, image: 'Test', run })
  mapped.machine.memory.write(physical, bytes)
}

beforeEach(() => {
  mapped = mappedMachine()
  received = []
  const { cpu, tables } = mapped
  tables.mapRange(virt(STACK_TOP - 0x1000n), phys(0x8000), PAGE_SIZE)
  tables.mapRange(virt(CODE), phys(CODE_PHYSICAL), PAGE_SIZE, { executable: true })
  cpu.rsp = STACK_TOP
  placeGate('Add', CODE_PHYSICAL, (call) => {
    received.push(call)
    return (call.args[0] ?? 0n) + (call.args[1] ?? 0n)
  })
})

test('a call runs the function whose gate lies at the address, and returns RAX', () => {
  expect(mapped.cpu.call(CODE, 2n, 3n)).toBe(5n)
  expect(received).toMatchObject([{ rip: CODE, args: [2n, 3n] }])
  expect(mapped.cpu.rsp).toBe(STACK_TOP)
})

test('RAX has 64 bits', () => {
  expect(mapped.cpu.call(CODE, -2n, 1n)).toBe(0xffff_ffff_ffff_ffffn)
})

test('the address that the call was made to is the one that the function sees', () => {
  const alias = 0xffff_8800_0020_0000n
  mapped.tables.mapRange(virt(alias), phys(CODE_PHYSICAL), PAGE_SIZE, { executable: true })
  mapped.cpu.call(alias)
  expect(received[0]?.rip).toBe(alias)
})

test('a gate on a no-execute page is a page fault on the fetch', () => {
  mapped.tables.changeRange(virt(CODE), PAGE_SIZE, (low) => [low, -0x8000_0000])
  let fault: unknown
  try {
    mapped.cpu.call(CODE)
  } catch (error) {
    fault = error
  }
  expect(fault).toMatchObject({ name: 'PageFault', access: 'execute', errorCode: 0x11 })
  expect(received).toEqual([])
})

test('a gate on a page that is not there is a page fault on the fetch', () => {
  mapped.tables.unmapRange(virt(CODE), PAGE_SIZE)
  expect(() => mapped.cpu.call(CODE)).toThrow(
    expect.objectContaining({ access: 'execute', errorCode: 0x10, address: CODE }),
  )
})

test('a gate that runs over into a page that is not there faults at that page', () => {
  const address = CODE + BigInt(PAGE_SIZE - GATE_SIZE / 2)
  placeGate('Late', CODE_PHYSICAL + PAGE_SIZE - GATE_SIZE / 2, () => 0n)
  expect(() => mapped.cpu.call(address)).toThrow(
    expect.objectContaining({ access: 'execute', address: CODE + BigInt(PAGE_SIZE) }),
  )
})

test('a gate may lie across two pages that are apart in memory', () => {
  const address = CODE + BigInt(PAGE_SIZE - 3)
  const bytes = mapped.machine.gates.bind({ name: 'Split', image: 'Test', run: () => 7n })
  mapped.tables.mapRange(virt(CODE + 0x1000n), phys(0x50_0000), PAGE_SIZE, { executable: true })
  mapped.machine.memory.write(CODE_PHYSICAL + PAGE_SIZE - 3, bytes.subarray(0, 3))
  mapped.machine.memory.write(0x50_0000, bytes.subarray(3))
  expect(mapped.cpu.call(address)).toBe(7n)
})

test('bytes that are no gate are an invalid opcode, and the fault shows them', () => {
  mapped.machine.memory.write(CODE_PHYSICAL, Uint8Array.of(0x55, 0x48, 0x89, 0xe5, 1, 2, 3, 4))
  let fault: unknown
  try {
    mapped.cpu.call(CODE)
  } catch (error) {
    fault = error
  }
  expect(fault).toBeInstanceOf(InvalidOpcode)
  expect(fault).toMatchObject({
    vector: 6,
    address: CODE,
    message: 'no instruction at 0x0000000000400000: 55 48 89 e5 01 02 03 04',
  })
})

test('a gate whose number nobody bound is an invalid opcode', () => {
  mapped.machine.memory.write32(CODE_PHYSICAL + 4, 99)
  expect(() => mapped.cpu.call(CODE)).toThrow(InvalidOpcode)
})

test('a gate that was overwritten by one byte is an invalid opcode', () => {
  mapped.machine.memory.write8(CODE_PHYSICAL + 2, 0)
  expect(() => mapped.cpu.call(CODE)).toThrow(InvalidOpcode)
})

test('a call needs a stack that it can write to', () => {
  mapped.cpu.rsp = 0x7000_0000n
  expect(() => mapped.cpu.call(CODE)).toThrow(
    expect.objectContaining({ access: 'write', address: 0x6fff_fff8n }),
  )
})

test('a stack pointer of zero wraps to the top of the address space', () => {
  mapped.cpu.rsp = 0n
  expect(() => mapped.cpu.call(CODE)).toThrow(
    expect.objectContaining({ name: 'PageFault', address: 0xffff_ffff_ffff_fff8n }),
  )
})

test('a return to a stack that the function took out of the tables faults', () => {
  placeGate('Unmap', CODE_PHYSICAL, ({ cpu }) => {
    mapped.tables.unmapRange(virt(STACK_TOP - 0x1000n), PAGE_SIZE)
    cpu.writeCr3(cpu.cr3)
    return 0n
  })
  expect(() => mapped.cpu.call(CODE)).toThrow(
    expect.objectContaining({ access: 'read', address: STACK_TOP - 8n }),
  )
})

test('calls nest, and a fault inside names the function that ran', () => {
  placeGate('Outer', CODE_PHYSICAL, ({ cpu }) => cpu.call(CODE + 0x100n))
  placeGate('Inner', CODE_PHYSICAL + 0x100, ({ cpu }) => {
    expect(cpu.calls.map((call) => call.gate.name)).toEqual(['Outer', 'Inner'])
    expect(cpu.rsp).toBe(STACK_TOP - 16n)
    return BigInt(cpu.read8(0x1234n))
  })
  let fault: unknown
  try {
    mapped.cpu.call(CODE)
  } catch (error) {
    fault = error
  }
  expect(fault).toBeInstanceOf(PageFault)
  expect(fault).toMatchObject({ site: { rip: CODE + 0x100n } })
  expect(mapped.cpu.calls).toHaveLength(2)
  mapped.cpu.abandonCalls()
  expect(mapped.cpu.calls).toEqual([])
})

test('a registry tells its own gates from other bytes', () => {
  const registry = new GateRegistry()
  const gate = { name: 'GetTime', image: 'PcRtc', run: (): bigint => 0n }
  const bytes = registry.bind(gate)
  expect(bytes).toHaveLength(GATE_SIZE)
  const view = new DataView(bytes.buffer, bytes.byteOffset, GATE_SIZE)
  const words = [view.getInt32(0, true), view.getInt32(4, true)] as const
  expect(registry.decode(...words)).toBe(gate)
  expect(registry.decode(0, 0)).toBeUndefined()
  expect(new GateRegistry().decode(...words)).toBeUndefined()
})

test('the recorder is told of each page that is touched, and how', () => {
  const touched: string[] = []
  mapped.cpu.touchRecorder = (frame, access, address) => {
    touched.push(`${access} ${frame.toString(16)} ${address.toString(16)}`)
  }
  mapped.cpu.call(CODE)
  expect(touched).toEqual(['write 8 ffff8', 'execute 200 400000', 'read 8 ffff8'])
})
