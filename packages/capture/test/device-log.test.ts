import { expect, test } from 'vitest'
import { parseAccesses } from '../src/vectors/device-log.ts'

test('accesses of processors are read from QEMU’s trace, and those of its monitor are not', () => {
  const log = `
memory_region_ops_read cpu 0 mr 0x55d0c1e2a0 addr 0x71 value 0x26 size 1 name 'rtc'
memory_region_ops_write cpu 0 mr 0x55d0c1e2b0 addr 0xffe03c46 value 0x3d size 1 name 'system.flash1'
memory_region_ops_read cpu -1 mr 0x55d0c1e2a0 addr 0x71 value 0x26 size 1 name 'rtc'
memory_region_tb_read cpu 0 addr 0x0 value 0x0 size 4
`
  expect(parseAccesses(log)).toEqual([
    { kind: 'read', device: 'rtc', address: 0x71, value: 0x26, size: 1 },
    { kind: 'write', device: 'system.flash1', address: 0xffe0_3c46, value: 0x3d, size: 1 },
  ])
})
