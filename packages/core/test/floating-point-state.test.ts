import { expect, test } from 'vitest'

import { FCW_AT_INIT, Machine } from '../src/index.ts'

test('firmware hands over an initialised x87, and RESET leaves another', () => {
  const { bootCpu: cpu } = new Machine()
  expect(cpu.floatingPoint).toMatchObject({ controlWord: FCW_AT_INIT, statusWord: 0, tags: 0 })
  cpu.floatingPoint.xmm.fill(-1)
  cpu.floatingPoint.xcr0 = 3
  cpu.reset()
  // SDM Vol. 3, table 10-1.
  expect(cpu.floatingPoint).toMatchObject({ controlWord: 0x40, statusWord: 0, tags: 0xff, xcr0: 1 })
  expect(cpu.floatingPoint.xmm.every((word) => word === 0)).toBe(true)
  expect(new Machine({ start: 'reset' }).bootCpu.floatingPoint.controlWord).toBe(0x40)
})

test('a fork has its parent’s registers of x87 and SSE, and changes its own', () => {
  const parent = new Machine()
  const state = parent.bootCpu.floatingPoint
  state.xmm[63] = 7
  state.registers[30] = 0x3fff
  Object.assign(state, { statusWord: 0x3800, tags: 0x80, lastOpcode: 0x1d9, lastData: 5n })
  const forked = parent.fork().bootCpu.floatingPoint
  expect(forked).toEqual(state)
  forked.xmm[63] = 8
  forked.registers[30] = 0
  expect([state.xmm[63], state.registers[30]]).toEqual([7, 0x3fff])
})
