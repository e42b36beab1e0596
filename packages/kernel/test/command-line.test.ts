import { describe, expect, test } from 'vitest'
import { KernelError, parseCommandLine } from '../src/index.ts'

test('an empty line asks for nothing', () => {
  expect(parseCommandLine('  ')).toEqual({
    text: '',
    no5lvl: false,
    fakeMemory: [],
    maxCpus: Infinity,
    nokaslr: false,
    physefi: false,
    noefi: false,
    virtefi: false,
    addEfiMemmap: false,
    efi: new Set(),
    crashKernelBytes: 0,
  })
})

test('options are found among words that mean other things', () => {
  const line = 'root=/dev/sda1 ro  virtefi\tquiet add_efi_memmap crashkernel=128M'
  expect(parseCommandLine(line)).toEqual({
    text: 'root=/dev/sda1 ro virtefi quiet add_efi_memmap crashkernel=128M',
    no5lvl: false,
    fakeMemory: [],
    maxCpus: Infinity,
    nokaslr: false,
    physefi: false,
    noefi: false,
    virtefi: true,
    addEfiMemmap: true,
    efi: new Set(),
    crashKernelBytes: 128 * 2 ** 20,
  })
})

test('a word that only contains an option is not it', () => {
  const options = parseCommandLine(
    'xnoefi noefi2 virtefi=1 Virtefi add_efi_memmap, mycrashkernel=1',
  )
  expect(options).toMatchObject({
    no5lvl: false,
    fakeMemory: [],
    maxCpus: Infinity,
    nokaslr: false,
    physefi: false,
    noefi: false,
    virtefi: false,
    addEfiMemmap: false,
    efi: new Set(),
    crashKernelBytes: 0,
  })
})

test('noefi and virtefi may stand together', () => {
  expect(parseCommandLine('virtefi noefi')).toMatchObject({ noefi: true, virtefi: true })
})

test.each([
  ['4096', 4096],
  ['64K', 2 ** 16],
  ['64k', 2 ** 16],
  ['128M', 2 ** 27],
  ['1g', 2 ** 30],
])('crashkernel=%s is %i bytes', (size, bytes) => {
  expect(parseCommandLine(`crashkernel=${size}`).crashKernelBytes).toBe(bytes)
})

test('the last crashkernel= counts', () => {
  expect(parseCommandLine('crashkernel=1M crashkernel=2M').crashKernelBytes).toBe(2 ** 21)
})

test.each(['crashkernel=', 'crashkernel=auto', 'crashkernel=128M@16M', 'crashkernel=-1'])(
  '%s is refused with a hint',
  (word) => {
    expect(() => parseCommandLine(`quiet ${word}`)).toThrow(KernelError)
    expect(() => parseCommandLine(word)).toThrow(
      expect.objectContaining({ code: 'KERNEL_BAD_COMMAND_LINE', found: word }),
    )
  },
)

describe('efi_fake_mem', () => {
  test('has sizes, starts and attributes', () => {
    expect(parseCommandLine('efi_fake_mem=2G@4G:0x10000,16K@0x1800:1').fakeMemory).toEqual([
      { start: 2 ** 32, end: 6 * 2 ** 30, attribute: 0x1_0000n },
      { start: 0x1000, end: 0x6000, attribute: 1n },
    ])
  })

  test.each(['efi_fake_mem=2G', 'efi_fake_mem=2G@4G', 'efi_fake_mem=x@4G:1'])(
    'refuses %s',
    (text) => {
      expect(() => parseCommandLine(text)).toThrow(/efi_fake_mem= with ranges such as/)
    },
  )
})
