import { expect, test } from 'vitest'
import {
  type Access,
  BROADWELL,
  Cr4,
  describePageFault,
  Efer,
  type MapOptions,
  PAGE_SIZE,
  PageFault,
  phys,
  virt,
} from '../src/index.ts'
import { type MappedMachine, mappedMachine } from './mapped-machine.ts'

const PAGE = 0x40_0000n

/** The page fault of an access to a page at {@link PAGE}. */
function faultOf(
  access: Access,
  flags: MapOptions | undefined,
  prepare: (machine: MappedMachine) => void = () => undefined,
): PageFault {
  const mapped = mappedMachine()
  if (flags !== undefined) mapped.tables.mapRange(virt(PAGE), phys(0x20_0000), PAGE_SIZE, flags)
  prepare(mapped)
  try {
    mapped.cpu.translate(PAGE, access)
  } catch (error) {
    if (error instanceof PageFault) return error
    throw error
  }
  throw new Error('the access went through')
}

const setEntry =
  (value: bigint) =>
  ({ tables }: MappedMachine): void => {
    tables.writeEntry(virt(PAGE), value)
  }

test('a supervisor read of a page that is not there has code 0', () => {
  expect(faultOf('read', undefined).errorCode).toBe(0)
})

test('a supervisor write to a page that is not there has W', () => {
  expect(faultOf('write', undefined).errorCode).toBe(0x02)
})

test('a supervisor write to a read-only page under CR0.WP has P and W', () => {
  expect(faultOf('write', { writable: false }).errorCode).toBe(0x03)
})

test('a user read of a supervisor page has P and U', () => {
  const fault = faultOf('read', {}, ({ cpu }) => {
    cpu.cpl = 3
  })
  expect(fault.errorCode).toBe(0x05)
})

test('a fetch from a no-execute page has P and I', () => {
  expect(faultOf('execute', { executable: false }).errorCode).toBe(0x11)
})

test('a fetch from a page that is not there has I where NXE is on', () => {
  expect(faultOf('execute', undefined).errorCode).toBe(0x10)
})

test('a fetch has no I where neither NXE nor SMEP is on', () => {
  const fault = faultOf('execute', undefined, ({ cpu }) => {
    cpu.writeEfer(Efer.LME)
  })
  expect(fault.errorCode).toBe(0)
})

test('a fetch has I where SMEP is on without NXE', () => {
  const fault = faultOf('execute', undefined, ({ cpu }) => {
    cpu.writeEfer(Efer.LME)
    cpu.writeCr4(Cr4.PAE | Cr4.SMEP)
  })
  expect(fault.errorCode).toBe(0x10)
})

test('a supervisor fetch from a user page under SMEP has P and I', () => {
  const fault = faultOf('execute', { user: true, executable: true }, ({ cpu }) => {
    cpu.writeCr4(Cr4.PAE | Cr4.SMEP)
  })
  expect(fault.errorCode).toBe(0x11)
})

test('a supervisor write to a user page under SMAP has P and W', () => {
  const fault = faultOf('write', { user: true }, ({ cpu }) => {
    cpu.writeCr4(Cr4.PAE | Cr4.SMAP)
  })
  expect(fault.errorCode).toBe(0x03)
})

test('RFLAGS.AC lets a supervisor past SMAP, but not past SMEP', () => {
  const { cpu, tables } = mappedMachine()
  tables.mapRange(virt(PAGE), phys(0x20_0000), PAGE_SIZE, { user: true, executable: true })
  cpu.writeCr4(Cr4.PAE | Cr4.SMAP | Cr4.SMEP)
  cpu.alignmentCheck = true
  expect(cpu.translate(PAGE, 'read')).toBe(0x20_0000)
  expect(() => cpu.translate(PAGE, 'execute')).toThrow(PageFault)
})

test('an address bit from MAXPHYADDR up has P and RSVD', () => {
  const bit = 1n << BigInt(BROADWELL.maxPhysicalAddressBits)
  expect(faultOf('read', {}, setEntry(bit | 0x63n)).errorCode).toBe(0x09)
})

test('a reserved bit in an entry that is not present is not looked at', () => {
  const bit = 1n << BigInt(BROADWELL.maxPhysicalAddressBits)
  expect(faultOf('read', {}, setEntry(bit | 0x62n)).errorCode).toBe(0)
})

test('a reserved bit above hides that the entry below is not present', () => {
  const fault = faultOf('read', {}, ({ tables }) => {
    tables.writeEntry(virt(PAGE), 0n)
    tables.setRootEntry(0, tables.rootEntry(0) | 0x80n)
  })
  expect({ code: fault.errorCode, entries: fault.steps.map((step) => step.entry) }).toEqual({
    code: 0x09,
    entries: ['PML4E'],
  })
})

test('a reserved bit counts before rights that would refuse as well', () => {
  const bit = 1n << 51n
  expect(faultOf('write', {}, setEntry(bit | 0x61n)).errorCode).toBe(0x0b)
})

test('NX is a reserved bit where NXE is off', () => {
  const fault = faultOf('read', { executable: false }, ({ cpu }) => {
    cpu.writeEfer(Efer.LME)
  })
  expect(fault.errorCode).toBe(0x09)
})

test('a page fault carries the walk that led to it, and CR2', () => {
  const { cpu, tables } = mappedMachine()
  tables.mapRange(virt(PAGE), phys(0x20_0000), PAGE_SIZE)
  let fault: unknown
  try {
    cpu.read8(PAGE + 0x1234n)
  } catch (error) {
    fault = error
  }
  expect(fault).toMatchObject({
    name: 'PageFault',
    vector: 14,
    address: PAGE + 0x1234n,
    access: 'read',
    message: 'read at 0x0000000000401234: supervisor read, page not present',
    site: { cpu: 0, rip: undefined, cr3: 0x1_0000 },
    steps: [
      { entry: 'PML4E', table: 0x1_0000, index: 0, value: 0x1_1067n },
      { entry: 'PDPTE', table: 0x1_1000, index: 0, value: 0x1_2067n },
      { entry: 'PDE', table: 0x1_2000, index: 2, value: 0x1_3067n },
      { entry: 'PTE', table: 0x1_3000, index: 1, value: 0n },
    ],
  })
  expect(cpu.cr2).toBe(PAGE + 0x1234n)
})

test.each([
  [0x00, 'supervisor read, page not present'],
  [0x03, 'supervisor write, not allowed by the page'],
  [0x09, 'supervisor read, reserved bit set in a paging-structure entry'],
  [0x15, 'user instruction fetch, not allowed by the page'],
])('code 0x%s in words is "%s"', (code, words) => {
  expect(describePageFault(code)).toBe(words)
})
