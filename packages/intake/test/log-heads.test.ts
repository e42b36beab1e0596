import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { readMemoryMaps } from '../src/index.ts'
import { print, type Printable, PRINTERS } from './printers.ts'
import { readOneMap } from './read-text.ts'

const entries: readonly Printable[] = [
  { type: 7, start: 0n, pages: 0x9fn, attribute: 0xfn },
  { type: 5, start: 0x7f00_0000n, pages: 0x100n, attribute: 0x8000_0000_0000_000fn },
  { type: 6, start: 0x7f10_0000n, pages: 0x100n, attribute: 0x8000_0000_0000_000fn },
  { type: 11, start: 0xffc0_0000n, pages: 0x400n, attribute: 0x8000_0000_0000_0001n },
]
const printer = PRINTERS.find(({ format }) => format === 'linux_type')!
const plain = print(printer, entries).replaceAll('[    0.000000] ', '')
const found = readOneMap(plain).entries

test('the plain text is read', () => {
  expect(found).toMatchObject(entries)
})

describe('what programs put before and after each line does not matter', () => {
  test.each<[string, (line: string) => string]>([
    ['dmesg stamps', (line) => `[    0.000000] ${line}`],
    ['dmesg stamps with the caller', (line) => `[    8.711234][    T0] ${line}`],
    ['dmesg -T', (line) => `[Thu Nov 21 20:40:28 2019] ${line}`],
    ['dmesg -x', (line) => `kern  :info  : [    0.000000] ${line}`],
    ['levels', (line) => `<6>[    0.000000] ${line}`],
    ['syslog', (line) => `Nov 11 14:48:39 host kernel: [    0.000000] ${line}`],
    ['journalctl -o short-iso', (line) => `2024-01-01T00:00:00+0000 host kernel: ${line}`],
    ['journalctl -o short-monotonic', (line) => `[    0.000000] host kernel: ${line}`],
    ['indentation', (line) => `    ${line}`],
    ['mail quoting', (line) => `> > ${line}`],
    ['indentation in a quotation', (line) => ` >     [    0.000000] ${line}`],
    ['blanks that do not break', (line) => line.replaceAll(' ', '\u00a0')],
    ['quoted-printable', (line) => line.replaceAll('=', '=3D')],
    ['blanks at the end', (line) => `${line}  \t`],
    ['carriage returns', (line) => `${line}\r`],
    ['BBCode', (line) => `[code]${line}[/code]`],
    ['a JSON array', (line) => `  "${line}",`],
    ['terminal colours', (line) => `\u001b[32m${line}\u001b[0m`],
  ])('%s', (_, wrap) => {
    const text = plain
      .trimEnd()
      .split('\n')
      .map((line) => wrap(line))
      .join('\n')
    expect(readOneMap(`${text}\n`)).toMatchObject({ entries: found, complete: true })
  })
})

describe('what the bytes are', () => {
  test.each<[string, Uint8Array]>([
    ['UTF-8 with a byte-order mark', Buffer.from(`\ufeff${plain}`)],
    ['UTF-16LE, as the UEFI shell redirects', Buffer.from(`\ufeff${plain}`, 'utf16le')],
    ['UTF-16BE', Buffer.from(`\ufeff${plain}`, 'utf16le').swap16()],
    ['gzip', gzipSync(plain)],
    ['text with a byte that is no UTF-8', Buffer.concat([Buffer.of(0xe4, 10), Buffer.from(plain)])],
  ])('%s', (_, bytes) => {
    const [map] = readMemoryMaps({ file: 'log', bytes }).maps
    expect(map?.entries).toMatchObject(entries)
    expect(map?.complete).toBe(true)
  })

  test('the name of the file says nothing', () => {
    const bytes = Buffer.from(plain)
    const read = readMemoryMaps({ file: 'xen-grub-shell.bin.gz', bytes })
    expect(read.maps.map(({ format }) => format)).toEqual(['linux_type'])
  })
})
