import { describe, expect, test } from 'vitest'
import { selectFirmwareMap, toMemoryDescriptors } from '../src/index.ts'
import { codesOf, readOneMap, readText } from './read-text.ts'
import { thrownBy } from './thrown.ts'

/** A line of Linux 3.x; the size in whole MiB follows from the range. */
function row(number: number, type: number, attribute: string, range: string): string {
  const [start, end] = range.match(/0x[0-9a-f]+/g)!.map(BigInt)
  const megabytes = BigInt.asUintN(64, end! - start!) >> 20n
  return `efi: mem0${number}: type=${type}, attr=${attribute}, range=${range} (${megabytes}MB)`
}
const sound = [
  row(0, 7, '0xf', '[0x0000000000000000-0x000000000009f000)'),
  row(1, 0, '0xf', '[0x0000000000000000-0x0000000000000000)'),
  row(2, 5, '0x800000000000000f', '[0x000000007f000000-0x000000007f010000)'),
  row(3, 1879048193, '0x0', '[0x000000007f010000-0x000000007f011000)'),
]
const logOf = (...lines: string[]): string => `${[...lines, 'SMBIOS 2.7 present.'].join('\n')}\n`

test('a sound map becomes descriptors in its order, entries without pages and types without a name kept', () => {
  expect(toMemoryDescriptors(readOneMap(logOf(...sound)))).toEqual([
    { type: 7, physicalStart: 0, virtualStart: 0n, numberOfPages: 0x9f, attribute: 0xfn },
    { type: 0, physicalStart: 0, virtualStart: 0n, numberOfPages: 0, attribute: 0xfn },
    {
      type: 5,
      physicalStart: 0x7f00_0000,
      virtualStart: 0n,
      numberOfPages: 0x10,
      attribute: 0x8000_0000_0000_000fn,
    },
    {
      type: 0x7000_0001,
      physicalStart: 0x7f01_0000,
      virtualStart: 0n,
      numberOfPages: 1,
      attribute: 0n,
    },
  ])
})

describe('an entry that cannot be run is named by its line', () => {
  test.each([
    ['an end before the start', '[0xffffffffffff0000-0x0000000000001000)', 'INTAKE_WRAPS'],
    ['a start off a page boundary', '[0x0000000090000800-0x0000000090001800)', 'INTAKE_MISALIGNED'],
    ['an end off a page boundary', '[0x0000000090000000-0x0000000090000800)', 'INTAKE_RANGE'],
    [
      'a start of more than 64 bits',
      '[0x10000000000000000-0x10000000000001000)',
      'INTAKE_OVERSIZED',
    ],
  ])('%s', (_, range, warning) => {
    const map = readOneMap(logOf(...sound, row(4, 7, '0xf', range)))
    expect(codesOf(map)).toContain(warning)
    expect(map.warnings.find(({ code }) => code === warning)).toMatchObject({
      file: 'log.txt',
      line: 5,
    })
    expect(thrownBy(() => toMemoryDescriptors(map))).toMatchObject({
      code: 'INTAKE_BAD_ENTRY',
      file: 'log.txt',
      line: 5,
    })
  })

  test('an address that no processor has', () => {
    const range = '[0x0010000000000000-0x0010000000001000)'
    const map = readOneMap(logOf(...sound, row(4, 7, '0xf', range)))
    expect(thrownBy(() => toMemoryDescriptors(map))).toMatchObject({
      code: 'INTAKE_BAD_ENTRY',
      line: 5,
      expected: 'physical addresses below 2^52',
    })
  })

  test.each([
    ['an attribute', row(4, 7, '0x1800000000000000f', '[0x90000000-0x90001000)')],
    ['a type', row(4, 4_294_967_296, '0xf', '[0x90000000-0x90001000)')],
  ])('%s that does not fit its field', (_, line) => {
    const map = readOneMap(logOf(...sound, line))
    expect(codesOf(map)).toContain('INTAKE_OVERSIZED')
    expect(thrownBy(() => toMemoryDescriptors(map))).toMatchObject({
      code: 'INTAKE_BAD_ENTRY',
      line: 5,
    })
  })
})

describe('entries that overlap', () => {
  const map = readOneMap(
    logOf(
      ...sound,
      row(4, 11, '0x1', '[0x000000007f008000-0x000000007f009000)'),
      row(5, 11, '0x1', '[0x000000007f00a000-0x000000007f00b000)'),
    ),
  )

  test('are each named', () => {
    expect(map.warnings.filter(({ code }) => code === 'INTAKE_OVERLAP')).toMatchObject([
      { line: 5, message: 'the entry at 0x7f008000 overlaps the entry of line 3' },
      { line: 6, message: 'the entry at 0x7f00a000 overlaps the entry of line 3' },
    ])
  })

  test('are refused unless one asks for them', () => {
    expect(thrownBy(() => toMemoryDescriptors(map))).toMatchObject({
      code: 'INTAKE_OVERLAP',
      line: 5,
      hint: expect.stringContaining('keep') as string,
    })
    expect(toMemoryDescriptors(map, { overlaps: 'keep' })).toHaveLength(6)
  })
})

describe('a map that is not whole', () => {
  const cut = readText(logOf(...sound.slice(1)))

  test('is refused with what it lacks', () => {
    expect(thrownBy(() => toMemoryDescriptors(cut.maps[0]!))).toMatchObject({
      code: 'INTAKE_INCOMPLETE',
      file: 'log.txt',
      line: 1,
      found: 'one that lacks entry 0, which is not in this text',
    })
  })

  test('is passed over where a whole one follows', () => {
    const { maps } = readText(logOf(...sound.slice(1)) + logOf(...sound))
    expect(selectFirmwareMap(maps)).toBe(maps[1])
  })

  test('explains itself where none follows', () => {
    expect(thrownBy(() => selectFirmwareMap(cut.maps))).toMatchObject({
      code: 'INTAKE_INCOMPLETE',
      found: 'linux_type, line 1, 3 entries, which lacks entry 0, which is not in this text',
      hint: 'take the log of a boot with efi=debug from its first line on',
    })
    expect(thrownBy(() => selectFirmwareMap([]))).toMatchObject({ found: 'no map' })
  })
})
