import fc from 'fast-check'
import { expect, test } from 'vitest'
import { toInspection } from '../src/index.ts'
import { print, PRINTERS } from './printers.ts'
import { readText } from './read-text.ts'

const remove = 'efi: Remove mem78: MMIO range=[0xc0000000-0xcfffffff] (256MB) from e820 map\n'

test('a map as JSON has numbers, hex from 2^53 on, and null where the form prints no attributes', () => {
  const runtimeMap = '0 0xb 0xffc00000 0xfffffffeffc00000 0x400 0x8000000000000001\n'
  expect(toInspection(readText(remove + runtimeMap))).toEqual({
    maps: [
      {
        format: 'linux_remove_mmio',
        kind: 'firmware',
        complete: false,
        missing: 'everything but MMIO; boot with efi=debug',
        descriptors: [{ type: 11, start: 0xc000_0000, pages: 0x1_0000, attribute: null }],
        warnings: [],
      },
      {
        format: 'runtime_map_list',
        kind: 'runtime-copy',
        complete: false,
        missing: 'everything but the runtime regions',
        descriptors: [
          { type: 11, start: 0xffc0_0000, pages: 0x400, attribute: '0x8000000000000001' },
        ],
        warnings: [],
      },
    ],
    warnings: [],
  })
})

test('no number loses a digit on its way through JSON', () => {
  const printer = PRINTERS.find(({ format }) => format === 'linux_type')!
  const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
  fc.assert(
    fc.property(u64, u64, (page, attribute) => {
      const start = (page >> 12n) << 12n
      const text = print(printer, [{ type: 7, start, pages: 1n, attribute }])
      const json = JSON.parse(JSON.stringify(toInspection(readText(text)))) as ReturnType<
        typeof toInspection
      >
      const [descriptor] = json.maps[0]!.descriptors
      expect(BigInt(descriptor!.start)).toBe(start)
      expect(BigInt(descriptor!.attribute!)).toBe(attribute)
      expect(typeof descriptor!.attribute).toBe(attribute < 2n ** 53n ? 'number' : 'string')
    }),
  )
})
