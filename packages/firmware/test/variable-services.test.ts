import { PageFault } from '@trapdoor/core'
import { EfiStatus } from '@trapdoor/uefi'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { boot, bootToRuntime, SMALL_MAP, smallFirmware } from '@trapdoor/plugin-kit'
import { APPEND, BS, GLOBAL, NV, RT, Variables } from '@trapdoor/plugin-kit'

const firmware = smallFirmware()
const atBoot = (): Variables => new Variables(boot(firmware))
const atRuntime = (): Variables => new Variables(bootToRuntime(firmware))

const bytes = (length: number): number[] => Array.from({ length }, () => 0xa5)
/** Names as {@link Variables.names} gives them, without the GUID. */
const withoutVendors = (names: readonly string[]): string[] => names.map((each) => each.slice(37))

describe('GetVariable', () => {
  test('hands out attributes, size and data', () => {
    const { status, attributes, data } = atRuntime().get('PlatformLang', GLOBAL)
    expect([status, attributes, data]).toEqual([EfiStatus.SUCCESS, 7, [0x65, 0x6e, 0]])
  })

  test('says the size that a buffer lacks', () => {
    const { status, size } = atRuntime().get('PlatformLang', GLOBAL, 2)
    expect([status, size]).toEqual([EfiStatus.BUFFER_TOO_SMALL, 3n])
  })

  test('goes by name, case and vendor', () => {
    const variables = atRuntime()
    expect(variables.get('platformLang', GLOBAL).status).toBe(EfiStatus.NOT_FOUND)
    expect(variables.get('PlatformLang').status).toBe(EfiStatus.NOT_FOUND)
    expect(variables.get('', GLOBAL).status).toBe(EfiStatus.NOT_FOUND)
  })

  test('refuses null pointers where it needs something', () => {
    const { caller } = atRuntime()
    const [name, vendor, size] = [caller.text('Timeout'), caller.guid(GLOBAL), caller.number(2n)]
    const get = (...args: readonly bigint[]): bigint => caller.service('GetVariable', ...args)
    expect(get(0n, vendor, 0n, size, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(get(name, 0n, 0n, size, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(get(name, vendor, 0n, 0n, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(get(name, vendor, 0n, size, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
  })

  test('reads a name up to its NUL and not a byte further', () => {
    const { caller } = atRuntime()
    const args = [caller.guid(GLOBAL), 0n, caller.number(2n), caller.room(8)]
    caller.useOwnTables(SMALL_MAP, { identity: true })
    // Where the tables of the test end.
    const end = 0x30_0000n
    expect(() => caller.cpu.read8(end)).toThrow(PageFault)
    caller.cpu.writeBytes(end - 16n, Buffer.from('Timeout\0', 'utf16le'))
    expect(caller.service('GetVariable', end - 16n, ...args)).toBe(EfiStatus.SUCCESS)
    caller.cpu.writeBytes(end - 14n, Buffer.from('Timeout', 'utf16le'))
    expect(() => caller.service('GetVariable', end - 14n, ...args)).toThrow(PageFault)
  })

  test('reports a device error once its store was overwritten', () => {
    const variables = atRuntime()
    const { machine } = variables.caller
    const store = [...machine.memory.owners.intervals()].find(
      ({ owner }) => owner.name === 'NV store',
    )!
    machine.memory.fill(store.start * 4096, store.end * 4096, 0x5a5a_5a5a)
    expect(variables.get('Timeout', GLOBAL).status).toBe(EfiStatus.DEVICE_ERROR)
  })
})

describe('SetVariable', () => {
  test('creates, replaces, appends and deletes', () => {
    const variables = atRuntime()
    expect(variables.set('Own', NV | BS | RT, [1, 2])).toBe(EfiStatus.SUCCESS)
    expect(variables.set('Own', NV | BS | RT, [3])).toBe(EfiStatus.SUCCESS)
    expect(variables.set('Own', NV | BS | RT | APPEND, [4, 5])).toBe(EfiStatus.SUCCESS)
    expect(variables.get('Own')).toMatchObject({ attributes: 7, data: [3, 4, 5] })
    expect(variables.set('Own', NV | BS | RT, [])).toBe(EfiStatus.SUCCESS)
    expect(variables.get('Own').status).toBe(EfiStatus.NOT_FOUND)
    expect(variables.set('Own', NV | BS | RT, [])).toBe(EfiStatus.NOT_FOUND)
  })

  test('deletes by attributes without access, and not by an empty append', () => {
    const variables = atRuntime()
    expect(variables.set('Timeout', NV | BS | RT | APPEND, [], GLOBAL)).toBe(EfiStatus.SUCCESS)
    expect(variables.get('Timeout', GLOBAL).data).toEqual([5, 0])
    expect(variables.set('Timeout', 0n, [1], GLOBAL)).toBe(EfiStatus.SUCCESS)
    expect(variables.get('Timeout', GLOBAL).status).toBe(EfiStatus.NOT_FOUND)
  })

  test.for([
    ['runtime access without boot services', RT | NV, EfiStatus.INVALID_PARAMETER],
    ['an attribute that nobody knows', NV | BS | RT | 0x100n, EfiStatus.INVALID_PARAMETER],
    ['a hardware error record', NV | BS | RT | 8n, EfiStatus.INVALID_PARAMETER],
    ['an authenticated write', NV | BS | RT | 0x20n, EfiStatus.UNSUPPORTED],
    ['a deprecated authenticated write', NV | BS | RT | 0x10n, EfiStatus.UNSUPPORTED],
  ] as const)('refuses %s', ([, attributes, status]) => {
    expect(atBoot().set('Own', attributes, [1])).toBe(status)
  })

  test('refuses other attributes for a variable that exists', () => {
    expect(atBoot().set('Timeout', BS | RT, [1], GLOBAL)).toBe(EfiStatus.INVALID_PARAMETER)
  })

  test('refuses an empty name and null pointers', () => {
    const { caller } = atRuntime()
    const [name, vendor, data] = [caller.text('Own'), caller.guid(GLOBAL), caller.room(8)]
    const set = (...args: readonly bigint[]): bigint => caller.service('SetVariable', ...args)
    expect(set(0n, vendor, 7n, 1n, data)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(set(caller.text(''), vendor, 7n, 1n, data)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(set(name, 0n, 7n, 1n, data)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(set(name, vendor, 7n, 1n, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
  })

  test('refuses at runtime what boot services alone may touch', () => {
    const variables = atRuntime()
    expect(variables.set('SecureBoot', BS | RT, [1], GLOBAL)).toBe(EfiStatus.WRITE_PROTECTED)
    expect(variables.set('Own', BS | RT, [1])).toBe(EfiStatus.INVALID_PARAMETER)
    expect(variables.set('Own', NV | BS, [1])).toBe(EfiStatus.INVALID_PARAMETER)
  })

  test('refuses a variable larger than QueryVariableInfo says, and takes one that is not', () => {
    const variables = atBoot()
    const { largest } = variables.info(NV | BS | RT)
    const room = largest - 'Own\0'.length * 2
    expect(variables.set('Own', NV | BS | RT, bytes(room + 1))).toBe(EfiStatus.INVALID_PARAMETER)
    expect(variables.set('Own', NV | BS | RT, bytes(room))).toBe(EfiStatus.SUCCESS)
  })

  test('runs out of resources and reclaims what was deleted', () => {
    const variables = atRuntime()
    const data = bytes(0x1000)
    const statuses = Array.from({ length: 9 }, (_, index) =>
      variables.set(`Big${index}`, NV | BS | RT, data),
    )
    expect(statuses.filter((status) => status === EfiStatus.SUCCESS)).toHaveLength(7)
    expect(statuses.at(-1)).toBe(EfiStatus.OUT_OF_RESOURCES)
    expect(variables.set('Big0', NV | BS | RT, [])).toBe(EfiStatus.SUCCESS)
    expect(variables.set('Other', NV | BS | RT, data)).toBe(EfiStatus.SUCCESS)
    expect(variables.get('Big6').data).toEqual(data)
    expect(variables.get('PlatformLang', GLOBAL).data).toEqual([0x65, 0x6e, 0])
  })
})

describe('GetNextVariableName', () => {
  test('lists volatile variables first, and at runtime none that is for boot services alone', () => {
    const shown = ['SetupMode', 'SecureBoot', 'MTC', 'PlatformLang', 'Timeout', 'BootOrder']
    expect(withoutVendors(atRuntime().names())).toEqual(shown)
    expect(withoutVendors(atBoot().names())).toEqual([...shown, 'MemoryTypeInformation'])
  })

  test('refuses a name that is no variable, or longer than the size says', () => {
    const { caller } = atRuntime()
    const next = (name: string, room: bigint): bigint =>
      caller.service(
        'GetNextVariableName',
        caller.number(room),
        caller.text(name),
        caller.guid(GLOBAL),
      )
    expect(next('Nobody', 64n)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(next('Timeout', 8n)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(next('Timeout', 16n)).toBe(EfiStatus.BUFFER_TOO_SMALL)
    expect(next('', 2n)).toBe(EfiStatus.BUFFER_TOO_SMALL)
    expect(caller.service('GetNextVariableName', 0n, 0n, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
  })
})

describe('QueryVariableInfo', () => {
  test('counts a variable with its header, and gives it back when it is deleted', () => {
    const variables = atRuntime()
    const before = variables.info(NV | BS | RT)
    variables.set('Own', NV | BS | RT, [1, 2, 3])
    const during = variables.info(NV | BS | RT)
    variables.set('Own', NV | BS | RT, [])
    // 32 bytes of header, 8 of name, 3 of data, in steps of 8.
    expect(during.remaining).toBe(before.remaining - 48)
    expect(variables.info(NV | BS | RT)).toEqual(before)
    expect(before.maximum).toBe(0x8000)
  })

  test.for([
    ['no attributes', 0n, EfiStatus.INVALID_PARAMETER],
    ['boot-services variables at runtime', NV | BS, EfiStatus.INVALID_PARAMETER],
    ['runtime without boot services', NV | RT, EfiStatus.INVALID_PARAMETER],
    ['authenticated variables', NV | BS | RT | 0x20n, EfiStatus.UNSUPPORTED],
  ] as const)('refuses %s', ([, attributes, status]) => {
    expect(atRuntime().info(attributes).status).toBe(status)
  })
})

describe('the variable store', () => {
  // Three variables of the largest size fit, so that nothing runs out of resources.
  const name = fc.constantFrom('A', 'Boot0001', 'Long name with spaces')
  const step = fc.record({
    kind: fc.constantFrom('set', 'append', 'delete'),
    name,
    data: fc.array(fc.nat(255), { maxLength: 1500 }),
  })
  type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

  /** What a step does to a map of names to data, and the status that UEFI 2.10, 8.2.3 gives it. */
  function apply(model: Map<string, readonly number[]>, { kind, name: key, data }: Step): bigint {
    const old = model.get(key)
    const empty = kind === 'delete' || data.length === 0
    if (empty && old === undefined) return EfiStatus.NOT_FOUND
    if (empty) {
      if (kind !== 'append') model.delete(key)
      return EfiStatus.SUCCESS
    }
    const written = kind === 'append' ? [...(old ?? []), ...data] : data
    if (32 + (key.length + 1) * 2 + written.length > 0x2000) return EfiStatus.INVALID_PARAMETER
    model.set(key, written)
    return EfiStatus.SUCCESS
  }

  test('behaves as a map does', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const variables = atRuntime()
        const model = new Map<string, readonly number[]>()
        const others = variables.names().length
        for (const each of steps) {
          const attributes = NV | BS | RT | (each.kind === 'append' ? APPEND : 0n)
          const status = variables.set(
            each.name,
            attributes,
            each.kind === 'delete' ? [] : each.data,
          )
          expect(status).toBe(apply(model, each))
          expect(variables.get(each.name).data).toEqual(model.get(each.name) ?? [])
        }
        expect(variables.names()).toHaveLength(others + model.size)
        for (const [key, data] of model) expect(variables.get(key).data).toEqual(data)
      }),
      { numRuns: 60 },
    )
  })
})
