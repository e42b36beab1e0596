import { expect, test } from 'vitest'
import { ARCHITECTURES } from '@trapdoor/uefi'
import { handOverApplication } from '../src/application/hand-over.ts'
import { decodeRecord, MSR_NAMES, RECORD_SIZE, RecordField } from '../src/application/record.ts'

test.each(['x64', 'ia32'] as const)(
  'the application for %s leaves room where QEMU looks for a setup header',
  (architecture) => {
    const { file, handedOver, refused, record, map } = handOverApplication(architecture)
    // setup_sects is 0, which stands for 4: with the boot sector, 2560 bytes are taken for the setup code.
    expect(file.length).toBeGreaterThan(2560)
    expect(file.subarray(0x1f1, 0x240).every((byte) => byte === 0)).toBe(true)
    expect(file.subarray(0x20, 0x24).every((byte) => byte === 0)).toBe(true)
    expect(new Set([handedOver, refused, record, map]).size).toBe(4)
  },
)

test.each(['x64', 'ia32'] as const)('a record of %s is read as it was written', (architecture) => {
  const bytes = new Uint8Array(RECORD_SIZE)
  const view = new DataView(bytes.buffer)
  const write = (offset: number, value: bigint): void => view.setBigUint64(offset, value, true)
  write(RecordField.SystemTable, 0x1f9e_c018n)
  write(RecordField.MapSize, 5616n)
  write(RecordField.MapKey, 1872n)
  write(RecordField.DescriptorSize, 48n)
  write(RecordField.DescriptorVersion, 1n)
  write(RecordField.Status, architecture === 'x64' ? (1n << 63n) | 2n : 0x8000_0002n)
  write(RecordField.Attempts, 2n)
  write(RecordField.Msrs + MSR_NAMES.indexOf('IA32_PAT') * 8, 0x7_0406_0007_0406n)
  const record = decodeRecord(bytes, ARCHITECTURES[architecture])
  expect(record).toMatchObject({
    systemTable: 0x1f9e_c018,
    mapSize: 5616,
    mapKey: 1872,
    descriptorSize: 48,
    descriptorVersion: 1,
    status: (1n << 63n) | 2n,
    attempts: 2,
  })
  expect(record.msrs.IA32_PAT).toBe(0x7_0406_0007_0406n)
  expect(record.msrs.IA32_APIC_BASE).toBe(0n)
})
