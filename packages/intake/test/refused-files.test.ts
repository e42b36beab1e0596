import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { readMemoryMaps } from '../src/index.ts'
import { thrownBy } from './thrown.ts'

describe('a file without a map is refused, by its name', () => {
  test.each<[string, Uint8Array, string, string]>([
    ['an empty one', new Uint8Array(), 'INTAKE_EMPTY', 'an empty file'],
    ['a gzip of nothing', gzipSync(''), 'INTAKE_EMPTY', 'an empty file'],
    ['one of blanks', Buffer.from(' \n\t\n'), 'INTAKE_EMPTY', 'nothing but blanks'],
    ['a binary one', Buffer.from('\u007fELF\0\0\0\u0001'), 'INTAKE_BINARY', 'a binary file'],
    [
      'half a gzip',
      gzipSync('x'.repeat(999)).subarray(0, 20),
      'INTAKE_BINARY',
      'unexpected end of file',
    ],
    [
      'a line of 200,000 blanks',
      Buffer.from(`a${' '.repeat(200_000)}b`),
      'INTAKE_NO_MAP',
      '1 lines without one',
    ],
    ['a letter', Buffer.from('Dear Sir\n'), 'INTAKE_NO_MAP', '2 lines without one'],
  ])('%s', (_, bytes, code, found) => {
    const error = thrownBy(() => readMemoryMaps({ file: 'machine.txt', bytes }))
    expect(error).toMatchObject({ code, found, file: 'machine.txt' })
    expect(error.message).toBe(`expected ${error.expected}, found ${found}`)
  })

  test('one whose only entry is torn, with its line', () => {
    const bytes = Buffer.from('hello\nefi: mem00: [Conventional Mem\n')
    expect(thrownBy(() => readMemoryMaps({ file: 'machine.txt', bytes }))).toMatchObject({
      code: 'INTAKE_NO_MAP',
      line: 2,
    })
  })
})
