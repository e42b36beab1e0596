import { expect, test } from 'vitest'
import {
  type Board,
  chipset,
  DebugPort,
  Machine,
  MachineReset,
  PM1_CONTROL,
  POWER_MANAGEMENT_BASE,
  RESET_CONTROL_PORT,
  SLEEP_ENABLE,
  SystemManagementInterrupt,
} from '../src/index.ts'

const BOARDS: readonly Board[] = ['pc', 'q35']
const SMI_COMMAND = 0xb2

test.each([
  ['a hard reset', RESET_CONTROL_PORT, 0x06, 'warm'],
  ['a full reset', RESET_CONTROL_PORT, 0x0e, 'cold'],
  ['the keyboard controller pulsing its reset line', 0x64, 0xfe, 'warm'],
  ['a fast reset', 0x92, 0x01, 'warm'],
] as const)('%s ends the run, says what did it and is logged', (_, port, value, type) => {
  const machine = new Machine()
  const by = `0x${value.toString(16)} written to port 0x${port.toString(16)}`
  expect(() => {
    machine.bootCpu.out8(port, value)
  }).toThrow(expect.objectContaining({ name: 'MachineReset', type, by }))
  expect(machine.log.events).toMatchObject([{ kind: 'reset', port, value }])
})

test.each([
  ['the reset type without the reset', RESET_CONTROL_PORT, 0x02],
  ['the gate of A20', 0x92, 0x02],
  ['the keyboard controller pulsing other lines', 0x64, 0xf1],
  ['the keyboard controller’s self-test', 0x64, 0xaa],
])('%s does nothing', (_, port, value) => {
  const machine = new Machine()
  machine.bootCpu.out8(port, value)
  expect(machine.log.events).toEqual([])
})

test('what the reset ports keep can be read back; the keyboard controller waits for nothing', () => {
  const ports = chipset({ board: 'pc' })
  ports.out8(RESET_CONTROL_PORT, 0x02)
  ports.out8(0x92, 0x02)
  const fork = ports.fork()
  ports.out8(RESET_CONTROL_PORT, 0)
  expect([0xcf9, 0x92, 0x64].map((port) => fork.in8(port))).toEqual([0x02, 0x02, 0x1c])
})

test.each(BOARDS)('%s sleeps by PM1a_CNT, 16 bits or its high byte', (board) => {
  const port = POWER_MANAGEMENT_BASE[board] + PM1_CONTROL
  const sleep = (value: number): (() => void) => {
    const machine = new Machine({ chipset: { board } })
    return () => {
      machine.bootCpu.out16(port, value)
    }
  }
  const by = `sleep of type 0 enabled in PM1a_CNT, port 0x${port.toString(16)}`
  expect(sleep(SLEEP_ENABLE | 1)).toThrow(
    expect.objectContaining({ name: 'MachineReset', type: 'shutdown', by }),
  )
  expect(sleep(SLEEP_ENABLE | (5 << 10))).toThrow(/sleep of type 5/)
  expect(sleep(5 << 10)).not.toThrow()
  expect(() => {
    new Machine({ chipset: { board } }).bootCpu.out8(port + 1, SLEEP_ENABLE >> 8)
  }).toThrow(MachineReset)
})

test('PM1 status bits are cleared by writing them, enables and control keep what is written', () => {
  const ports = chipset({ board: 'q35' })
  ports.out16(0x602, 0x0120)
  ports.out16(0x604, 0x1c01)
  ports.out16(0x600, 0xffff)
  expect([ports.in16(0x600), ports.in16(0x602), ports.in16(0x604)]).toEqual([0, 0x0120, 0x1c01])
  expect(ports.in32(0x600)).toBe(0x0120_0000)
})

test('the power-management timer goes on when it is read, in 24 bits', () => {
  const ports = chipset({ board: 'q35' })
  const first = ports.in32(0x608)
  const second = ports.in32(0x608)
  expect(second - first).toBe(4)
  expect(ports.in16(0x608)).toBe(second + 4)
  const fork = ports.fork()
  expect(fork.in8(0x608)).toBe(ports.in8(0x608))
  for (let reads = 0; reads < 2 ** 22; reads++) ports.in32(0x608)
  expect(ports.in32(0x608)).toBeLessThan(2 ** 24)
})

test.each([
  ['pc', 0xf1, 0xf0],
  ['q35', 0x02, 0x03],
] as const)(
  '%s goes into ACPI mode by itself where it is asked to by the SMI port',
  (board, on, off) => {
    const ports = chipset({ board })
    const control = POWER_MANAGEMENT_BASE[board] + PM1_CONTROL
    ports.out8(SMI_COMMAND, on)
    expect(ports.in16(control)).toBe(1)
    ports.out8(0xb3, 0x77)
    expect([ports.in8(SMI_COMMAND), ports.in8(0xb3)]).toEqual([on, 0x77])
    ports.out8(SMI_COMMAND, off)
    expect(ports.in16(control)).toBe(0)
  },
)

test('an SMI that nobody handles ends the run', () => {
  const ports = chipset({ board: 'q35', hasSmiHandler: true })
  ports.out8(0xb3, 0)
  expect(() => {
    ports.out8(SMI_COMMAND, 0x55)
  }).toThrow(SystemManagementInterrupt)
  expect(new SystemManagementInterrupt(0x55)).toMatchObject({ command: 0x55 })
})

/** Reads configuration space by mechanism 1. */
function configuration(
  board: Board,
  device: number,
  functionNumber: number,
  offset: number,
): number {
  const ports = chipset({ board })
  ports.out32(0xcf8, 0x8000_0000 + device * 0x800 + functionNumber * 0x100 + offset)
  return ports.in32(0xcfc)
}

test('PCI configuration space has the bridges that QEMU has, and where power management is', () => {
  expect(configuration('pc', 0, 0, 0)).toBe(0x1237_8086)
  expect(configuration('pc', 1, 0, 0)).toBe(0x7000_8086)
  expect(configuration('pc', 1, 3, 0)).toBe(0x7113_8086)
  expect(configuration('pc', 1, 3, 0x40)).toBe(0xb001)
  expect(configuration('q35', 0, 0, 0)).toBe(0x29c0_8086)
  expect(configuration('q35', 31, 0, 0)).toBe(0x2918_8086)
  expect(configuration('q35', 31, 0, 0x40)).toBe(0x601)
  expect(configuration('q35', 31, 0, 0x2c)).toBe(0x1100_1af4)
})

test('where no function is configuration space reads as ones, and registers that are not there as zero', () => {
  expect(configuration('pc', 2, 0, 0)).toBe(0xffff_ffff)
  expect(configuration('q35', 0, 0, 0xfc)).toBe(0)
  const ports = chipset({ board: 'pc' })
  expect(ports.in32(0xcfc)).toBe(0xffff_ffff)
  ports.out32(0xcf8, 0x8001_0000)
  expect(ports.in32(0xcfc)).toBe(0xffff_ffff)
})

test('configuration data can be read in pieces, and writes to it are dropped', () => {
  const ports = chipset({ board: 'pc' })
  ports.out32(0xcf8, 0x8000_0000)
  expect([ports.in16(0xcfc), ports.in16(0xcfe), ports.in8(0xcfd)]).toEqual([0x8086, 0x1237, 0x80])
  ports.out32(0xcfc, 0)
  ports.out16(0xcfc, 0)
  ports.out8(0xcfc, 0)
  expect(ports.fork().in32(0xcfc)).toBe(0x1237_8086)
})

test('the address is 32 bits in one write: a byte of it is the reset control register, or nothing', () => {
  const ports = chipset({ board: 'pc' })
  ports.out32(0xcf8, 0x8000_0000)
  ports.out8(0xcf8, 0x40)
  ports.out16(0xcf8, 0)
  expect([ports.in32(0xcf8), ports.in8(0xcf8), ports.in16(0xcf8)]).toEqual([
    0x8000_0000, 0xff, 0xffff,
  ])
})

test('the debug port says that it listens', () => {
  const ports = chipset({ board: 'pc' })
  expect(ports.in8(0x402)).toBe(0xe9)
})

test('the debug port keeps what is printed, and a fork prints on', () => {
  const port = new DebugPort()
  for (const character of 'SEC') port.out8(0x402, character.charCodeAt(0))
  const fork = port.fork()
  fork.out8(0x402, 0x21)
  expect([port.text, fork.text]).toEqual(['SEC', 'SEC!'])
})

test('a device is found by a port of its own', () => {
  const ports = chipset({ board: 'pc' })
  expect(ports.deviceAt(0x402)).toBeInstanceOf(DebugPort)
  expect(ports.deviceAt(0x1234)).toBeUndefined()
})
