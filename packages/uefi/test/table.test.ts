import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  BOOT_SERVICES_TABLE_SIGNATURE,
  BOOT_SERVICES_TABLE_SIZE,
  BootServicesTable,
  checkTable,
  crc32,
  encodeTableHeader,
  RUNTIME_SERVICES,
  RUNTIME_SERVICES_TABLE_SIGNATURE,
  RUNTIME_SERVICES_TABLE_SIZE,
  RuntimeServicesTable,
  sealTable,
  SYSTEM_TABLE_SIGNATURE,
  SYSTEM_TABLE_SIZE,
  SystemTable,
  TABLE_HEADER_SIZE,
  TableHeader,
} from '../src/index.ts'
import { thrownBy } from './thrown.ts'

test('the CRC is the one of Ethernet and zip: its check value', () => {
  expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf4_3926)
})

/** A table of `body` behind a header. */
function tableOf(body: Uint8Array): Uint8Array {
  const headerSize = TABLE_HEADER_SIZE + body.length
  const bytes = new Uint8Array(headerSize)
  bytes.set(
    encodeTableHeader({ signature: SYSTEM_TABLE_SIGNATURE, revision: 0x2_0046, headerSize }),
  )
  bytes.set(body, TABLE_HEADER_SIZE)
  return bytes
}

describe('the header of a table', () => {
  test('reads in memory as its signature, revision and size', () => {
    const bytes = encodeTableHeader({
      signature: SYSTEM_TABLE_SIGNATURE,
      revision: 0x2_0046,
      headerSize: SYSTEM_TABLE_SIZE,
    })
    expect(Buffer.from(bytes).toString('latin1', 0, 8)).toBe('IBI SYST')
    expect(Buffer.from(bytes).toString('hex', 8)).toBe('46000200780000000000000000000000')
  })

  test.each([
    [RUNTIME_SERVICES_TABLE_SIGNATURE, 'RUNTSERV'],
    [BOOT_SERVICES_TABLE_SIGNATURE, 'BOOTSERV'],
  ])('%i is the signature %s', (signature, text) => {
    const bytes = encodeTableHeader({ signature, revision: 0, headerSize: 24 })
    expect(Buffer.from(bytes).toString('latin1', 0, 8)).toBe(text)
  })
})

describe('the CRC of a table', () => {
  test('is right once sealed, sealed again or not, and wrong after any bit has changed', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.nat(), (body, where) => {
        const bytes = sealTable(sealTable(tableOf(body)))
        expect(checkTable(bytes)).toBe(true)
        // Bits of HeaderSize may make the table longer than it is, which is another matter.
        const bit = where % (bytes.length * 8)
        fc.pre(bit < TableHeader.HeaderSize * 8 || bit >= TableHeader.CRC32 * 8)
        bytes[bit >> 3]! ^= 1 << (bit & 7)
        expect(checkTable(bytes)).toBe(false)
      }),
    )
  })

  test('covers HeaderSize bytes and no more', () => {
    const bytes = Uint8Array.from([...sealTable(tableOf(Uint8Array.of(1, 2, 3))), 99])
    expect(checkTable(bytes)).toBe(true)
  })

  test.each([
    ['shorter than its header says', tableOf(new Uint8Array(8)).subarray(0, 30)],
    ['shorter than a header', new Uint8Array(23)],
    ['with a HeaderSize of 0', new Uint8Array(64)],
  ])('a table %s is refused', (_, bytes) => {
    expect(thrownBy(() => checkTable(bytes)).code).toBe('UEFI_BAD_TABLE')
    expect(thrownBy(() => sealTable(bytes)).code).toBe('UEFI_BAD_TABLE')
  })
})

test('the pointers that Linux follows stand where it looks for them', () => {
  expect(SystemTable).toMatchObject({
    FirmwareVendor: 0x18,
    RuntimeServices: 0x58,
    NumberOfTableEntries: 0x68,
    ConfigurationTable: 0x70,
  })
  expect(RuntimeServicesTable).toMatchObject({
    GetTime: 0x18,
    SetVirtualAddressMap: 0x38,
    GetVariable: 0x48,
    ResetSystem: 0x68,
    QueryVariableInfo: 0x80,
  })
})

test('the fourteen runtime services follow the header without a gap', () => {
  expect(RUNTIME_SERVICES).toHaveLength(14)
  const offsets = RUNTIME_SERVICES.map((name) => RuntimeServicesTable[name])
  expect(offsets).toEqual(offsets.map((_, index) => TABLE_HEADER_SIZE + 8 * index))
  expect(offsets.at(-1)).toBe(RUNTIME_SERVICES_TABLE_SIZE - 8)
})

/** Offset of a table's function, counted from 1. */
function place(index: number): number {
  return TABLE_HEADER_SIZE + 8 * (index - 1)
}

test('the boot services that a loader needs are the 3rd, 4th, 5th and 27th of 44', () => {
  expect(BootServicesTable).toEqual({
    AllocatePages: place(3),
    FreePages: place(4),
    GetMemoryMap: place(5),
    ExitBootServices: place(27),
  })
  expect(BOOT_SERVICES_TABLE_SIZE).toBe(place(45))
})
