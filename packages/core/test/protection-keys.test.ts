import { describe, expect, test } from 'vitest'
import {
  BROADWELL,
  type ChangeLeaf,
  type Cpu,
  Cr0,
  Cr4,
  GeneralProtection,
  InvalidOpcode,
  PageFault,
  PageFaultBit,
  phys,
  StackFault,
  virt,
} from '../src/index.ts'
import { mappedMachine } from './mapped-machine.ts'

const USER_PAGE = virt(0x40_0000_0000n)
const SUPERVISOR_PAGE = virt(0xffff_8000_0000_0000n)
const KEY = 5
const { Present, Write, User, ProtectionKey } = PageFaultBit
const features = { ...BROADWELL, pku: true, pks: true, lass: true }

const withKey: ChangeLeaf = (low, high) => [low, high | (KEY << 27)]

/** A user page and a supervisor page, both writable, both with key 5. */
function keyed(cr4: number): Cpu {
  const { cpu, tables } = mappedMachine({ features })
  tables.mapRange(USER_PAGE, phys(0x20_0000), 4096, { user: true, executable: true })
  tables.mapRange(SUPERVISOR_PAGE, phys(0x30_0000), 4096, { executable: true })
  tables.changeRange(USER_PAGE, 4096, withKey)
  tables.changeRange(SUPERVISOR_PAGE, 4096, withKey)
  cpu.writeCr4(cpu.cr4 | cr4)
  return cpu
}

function code(access: () => unknown): number | undefined {
  try {
    access()
  } catch (error) {
    if (error instanceof PageFault) return error.errorCode
    throw error
  }
  return undefined
}

describe('the protection key of a user page', () => {
  test('forbids data accesses of everybody where AD is set, but not fetches', () => {
    const cpu = keyed(Cr4.PKE)
    cpu.writePkru(1 << (2 * KEY))
    expect(code(() => cpu.translate(USER_PAGE, 'read'))).toBe(Present | ProtectionKey)
    expect(code(() => cpu.translate(USER_PAGE, 'execute'))).toBeUndefined()
    cpu.cpl = 3
    expect(code(() => cpu.translate(USER_PAGE, 'write'))).toBe(
      Present | Write | User | ProtectionKey,
    )
  })

  test('forbids writes where WD is set: a supervisor’s only with CR0.WP', () => {
    const cpu = keyed(Cr4.PKE)
    cpu.writePkru(2 << (2 * KEY))
    expect(code(() => cpu.translate(USER_PAGE, 'read'))).toBeUndefined()
    expect(code(() => cpu.translate(USER_PAGE, 'write'))).toBe(Present | Write | ProtectionKey)
    cpu.writeCr0(cpu.cr0 & ~Cr0.WP)
    expect(code(() => cpu.translate(USER_PAGE, 'write'))).toBeUndefined()
  })

  test('counts at once, without a flush, and says nothing of supervisor pages', () => {
    const cpu = keyed(Cr4.PKE)
    expect(code(() => cpu.translate(USER_PAGE, 'read'))).toBeUndefined()
    cpu.writePkru(0xffff_ffff)
    expect(cpu.pkru).toBe(0xffff_ffff)
    expect(code(() => cpu.translate(USER_PAGE, 'read'))).toBe(Present | ProtectionKey)
    expect(code(() => cpu.translate(SUPERVISOR_PAGE, 'write'))).toBeUndefined()
  })

  test('needs CR4.PKE, without which WRPKRU is #UD', () => {
    expect(() => {
      keyed(0).writePkru(0)
    }).toThrow(InvalidOpcode)
  })
})

describe('the protection key of a supervisor page', () => {
  test('is ruled by IA32_PKRS', () => {
    const cpu = keyed(Cr4.PKS)
    cpu.writePkrs(2 << (2 * KEY))
    expect(cpu.pkrs).toBe(2 << (2 * KEY))
    expect(code(() => cpu.translate(SUPERVISOR_PAGE, 'read'))).toBeUndefined()
    expect(code(() => cpu.translate(SUPERVISOR_PAGE, 'write'))).toBe(
      Present | Write | ProtectionKey,
    )
    expect(code(() => cpu.translate(USER_PAGE, 'write'))).toBeUndefined()
  })

  test('a CPU without supervisor keys has no IA32_PKRS', () => {
    const { cpu } = mappedMachine()
    expect(() => {
      cpu.writePkrs(0)
    }).toThrow(GeneralProtection)
  })
})

describe('linear-address-space separation', () => {
  test('keeps a user from the upper half, mapped or not, without a walk', () => {
    const cpu = keyed(Cr4.LASS)
    cpu.cpl = 3
    expect(() => cpu.translate(SUPERVISOR_PAGE, 'read')).toThrow(GeneralProtection)
    expect(() => cpu.translate(SUPERVISOR_PAGE, 'write', { stack: true })).toThrow(StackFault)
    expect(cpu.counters.walkReferences).toBe(0)
    expect(cpu.translate(USER_PAGE, 'read')).toBe(0x20_0000)
  })

  test('keeps a supervisor from fetching in the lower half, and from its data only with SMAP', () => {
    const cpu = keyed(Cr4.LASS)
    expect(() => cpu.translate(USER_PAGE, 'execute')).toThrow(GeneralProtection)
    expect(cpu.translate(USER_PAGE, 'read')).toBe(0x20_0000)
    cpu.writeCr4(cpu.cr4 | Cr4.SMAP)
    expect(() => cpu.translate(USER_PAGE, 'read')).toThrow(GeneralProtection)
    cpu.alignmentCheck = true
    expect(cpu.translate(USER_PAGE, 'read')).toBe(0x20_0000)
    expect(() => cpu.translate(USER_PAGE, 'read', { implicit: true })).toThrow(GeneralProtection)
  })
})
