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
    pti: 'auto',
    noefi: false,
    virtefi: false,
    addEfiMemmap: false,
    efi: new Set(),
    crashKernel: undefined,
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
    pti: 'auto',
    noefi: false,
    virtefi: true,
    addEfiMemmap: true,
    efi: new Set(),
    crashKernel: {
      sizes: [{ from: 0, to: Infinity, bytes: 128 * 2 ** 20 }],
      at: undefined,
      isHigh: false,
      lowBytes: undefined,
    },
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
    pti: 'auto',
    noefi: false,
    virtefi: false,
    addEfiMemmap: false,
    efi: new Set(),
    crashKernel: undefined,
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
  expect(parseCommandLine(`crashkernel=${size}`).crashKernel?.sizes[0]?.bytes).toBe(bytes)
})

test('the last crashkernel= counts', () => {
  const { crashKernel } = parseCommandLine('crashkernel=1M crashkernel=2M')
  expect(crashKernel?.sizes[0]?.bytes).toBe(2 ** 21)
})

function request(commandLine: string): unknown {
  return parseCommandLine(commandLine).crashKernel
}

function whatever(bytes: number): unknown {
  return [{ from: 0, to: Infinity, bytes }]
}

test('crashkernel= has a place, a size for each amount of RAM, and parts above and below 4 GiB', () => {
  const plain = { at: undefined, isHigh: false, lowBytes: undefined }
  expect(request('crashkernel=128M@16M')).toEqual({
    ...plain,
    sizes: whatever(2 ** 27),
    at: 2 ** 24,
  })
  expect(request('crashkernel=1G-4G:160M,4G-:256M@0x1000000')).toEqual({
    ...plain,
    at: 2 ** 24,
    sizes: [
      { from: 2 ** 30, to: 2 ** 32, bytes: 160 * 2 ** 20 },
      { from: 2 ** 32, to: Infinity, bytes: 2 ** 28 },
    ],
  })
  expect(request('crashkernel=1G,high crashkernel=128M,low')).toEqual({
    at: undefined,
    isHigh: true,
    sizes: whatever(2 ** 30),
    lowBytes: 2 ** 27,
  })
})

test.each([
  'crashkernel=',
  'crashkernel=auto',
  'crashkernel=128M@',
  'crashkernel=1G-4G:',
  'crashkernel=-1',
])('%s is refused with a hint', (word) => {
  expect(() => parseCommandLine(`quiet ${word}`)).toThrow(KernelError)
  expect(() => parseCommandLine(word)).toThrow(
    expect.objectContaining({ code: 'KERNEL_BAD_COMMAND_LINE', found: word }),
  )
})

test.each([
  ['pti=on', 'on'],
  ['nopti', 'off'],
  ['nopti pti=on', 'on'],
  ['pti=off', 'off'],
  ['pti=auto nopti', 'auto'],
  ['pti=maybe', 'auto'],
  ['pti=maybe nopti', 'off'],
])('%s isolates page tables: %s', (text, pti) => {
  expect(parseCommandLine(text).pti).toBe(pti)
})

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
