import { existsSync, mkdirSync, writeFileSync, appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { compilePlugin, PluginOutput } from '../src/vectors/trace-plugin.ts'
import { emptyFolder } from './folder.ts'
import { rejectionOf } from './thrown.ts'

const FIRST = `CALL 1 ok entry=1fa60b29 insns=1184 distinct=263 loads=316 stores=247 mmio=0
PAGE 1 va=1fa62000 pa=1fa62000 r=64 w=0 x=0
PAGE 1 va=1fa60000 pa=0 r=0 w=0 x=1184
`
const SECOND = `CALL 2 ok entry=1fa61000 insns=4 distinct=4 loads=1 stores=0 mmio=1
PAGE 2 va=ffe00000 pa=ffe00000 r=0 w=1 x=0 io=system.flash1
`

test('each call is read once, its pages in the order of addresses', async () => {
  const folder = emptyFolder()
  const file = join(folder, 'calls.txt')
  const output = new PluginOutput(folder)
  writeFileSync(file, FIRST)
  expect(await output.next()).toEqual({
    counts: { instructions: 1184, distinct: 263, loads: 316, stores: 247, deviceAccesses: 0 },
    pages: [
      {
        page: 0x1fa6_0000n,
        physical: undefined,
        reads: 0,
        writes: 0,
        executions: 1184,
        device: undefined,
      },
      {
        page: 0x1fa6_2000n,
        physical: 0x1fa6_2000,
        reads: 64,
        writes: 0,
        executions: 0,
        device: undefined,
      },
    ],
  })
  appendFileSync(file, SECOND)
  expect(await output.next()).toMatchObject({
    counts: { instructions: 4, deviceAccesses: 1 },
    pages: [{ physical: 0xffe0_0000, writes: 1, device: 'system.flash1' }],
  })
  expect(await rejectionOf(output.next())).toMatchObject({ code: 'CAPTURE_PROTOCOL', found: '0' })
})

test('a machine without a compiler is told how to get one, and what a compiler says is told', async () => {
  const folder = emptyFolder()
  const path = process.env['PATH']
  onTestFinished(() => {
    process.env['PATH'] = path
  })
  process.env['PATH'] = folder
  expect(await rejectionOf(compilePlugin(folder))).toMatchObject({
    code: 'CAPTURE_COMPILER_MISSING',
    hint: 'apt-get install --no-install-recommends gcc libc6-dev',
  })
  mkdirSync(join(folder, 'bin'))
  writeFileSync(join(folder, 'bin/cc'), '#!/bin/sh\necho "call-trace.c: no" >&2\nexit 4\n', {
    mode: 0o755,
  })
  process.env['PATH'] = join(folder, 'bin')
  expect(await rejectionOf(compilePlugin(folder))).toMatchObject({
    code: 'CAPTURE_COMPILER_FAILED',
    found: 'exit code 4',
    hint: 'call-trace.c: no',
  })
  expect(existsSync(join(folder, 'call-trace.so'))).toBe(false)
})
