import { beforeEach, expect, test } from 'vitest'
import { rejectionOf } from './thrown.ts'
import { Stub } from './stub.ts'

let stub: Stub

beforeEach(() => {
  stub = new Stub()
})

test('memory goes in pieces that fit into a packet', async () => {
  const bytes = Uint8Array.from({ length: 2500 }, (_, index) => index & 0xff)
  await stub.client.writeMemory(0x100n, bytes)
  expect(stub.memory.subarray(0x100, 0x100 + 2500)).toEqual(bytes)
  expect(await stub.client.readMemory(0x100n, 2500)).toEqual(bytes)
  expect(stub.requests.map((each) => each.split(':')[0])).toEqual([
    'M100,400',
    'M500,400',
    'M900,1c4',
    'm100,400',
    'm500,400',
    'm900,1c4',
  ])
})

test('registers are numbered as the stub describes them, without what is commented out', async () => {
  await stub.client.writeRegister('rip', 0xffff_8000_1234_5678n)
  await stub.client.writeRegister('eflags', 0x82n)
  await stub.client.writeRegister('rax', -1n)
  expect(stub.registers[2]).toEqual(Uint8Array.of(0x78, 0x56, 0x34, 0x12, 0x00, 0x80, 0xff, 0xff))
  expect(await stub.client.readRegister('rip')).toBe(0xffff_8000_1234_5678n)
  expect(await stub.client.readRegister('eflags')).toBe(0x82n)
  expect(await stub.client.readRegister('rax')).toBe(2n ** 64n - 1n)
  expect(await rejectionOf(stub.client.readRegister('not_there'))).toMatchObject({
    code: 'CAPTURE_PROTOCOL',
    found: '"rax eflags rip"',
  })
})

test('the monitor answers in parts', async () => {
  expect(await stub.client.monitor('info registers')).toBe('you said info registers')
})

test('a run ends where the machine stops', async () => {
  await stub.client.setBreakpoint(0x401_1000n)
  expect([...stub.breakpoints]).toEqual([0x401_1000])
  expect(await stub.client.run()).toEqual({ reason: 'T05thread:01;' })
  await stub.client.removeBreakpoint(0x401_1000n)
  expect(stub.breakpoints.size).toBe(0)
})

test.each<[string, string, () => Promise<unknown>]>([
  ['an error', 'm0,1', () => stub.client.readMemory(0n, 1)],
  ['too little memory', 'm0,8', () => stub.client.readMemory(0n, 8)],
  ['no breakpoint', 'Z1,0,1', () => stub.client.setBreakpoint(0n)],
  ['no register', 'p0', () => stub.client.readRegister('rax')],
  ['no reason', 'c', () => stub.client.run()],
  ['no monitor', `qRcmd,${Buffer.from('x').toString('hex')}`, () => stub.client.monitor('x')],
])('%s is an error of the protocol', async (_, request, work) => {
  stub.answers.set(request, ['E22'])
  expect(await rejectionOf(work())).toMatchObject({ code: 'CAPTURE_PROTOCOL' })
})

test('who waits is told that nothing more will come, and who asks later too', async () => {
  // What QEMU says when it is ended.
  stub.answers.set('c', ['W00'])
  const waiting = rejectionOf(stub.client.run())
  const reason = new Error('the emulator has ended')
  stub.client.fail(reason)
  expect(await waiting).toBe(reason)
  expect(await rejectionOf(stub.client.monitor('x'))).toBe(reason)
})
