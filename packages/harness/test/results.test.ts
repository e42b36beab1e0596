import { execFileSync } from 'node:child_process'
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  type CaseResult,
  collectResults,
  countOutcomes,
  loadConfig,
  parseExpected,
  parseResults,
  refuseUnwritable,
  resultsJsonSchema,
  serializeExpected,
  serializeResults,
  surprises,
  writeFileAtomically,
} from '../src/index.ts'
import { samplePlugin } from './sample-plugin.ts'
import { thrownBy } from './thrown.ts'

function result(id: string, outcome: CaseResult['outcome']): CaseResult {
  const [memoryMap, firmware, strategy, scenario] = id.split('/') as [
    string,
    string,
    string,
    string,
  ]
  return {
    id,
    memoryMap,
    quirks: firmware === 'none' ? [] : firmware.split('+'),
    strategy,
    kernel: { profile: '2.6.35', commandLine: '', ran: [strategy] },
    scenario,
    seed: 1,
    outcome,
    reason: 'so it was',
    findings: [],
    services: [],
    cost: null,
  }
}

const cases = [
  result('m/none/plain/boot', 'ok'),
  result('m/none/plain/kexec', 'fault'),
  result('m/Q01/tuned:state=B/boot', 'degraded'),
]

const map = {
  id: 'm',
  file: 'm.txt',
  format: 'linux_type',
  descriptors: 3,
  runtimeDescriptors: 2,
  bytesOfRam: 4096,
  warnings: [],
}

describe('results', () => {
  test('carry the names of what ran, and nothing of what did not', async () => {
    const config = await loadConfig({ directory: '/', builtIn: [samplePlugin()] })
    const results = collectResults(config, [map, { ...map, id: 'unused' }], cases)
    expect(results.memoryMaps).toEqual([map])
    expect(results.legend.quirks).toEqual([
      { id: 'Q01', name: 'first-habit', title: 'Does one thing' },
    ])
    expect(results.legend.strategies.map(({ name }) => name)).toEqual(['plain', 'tuned'])
    expect(results.totals).toEqual({
      fault: 1,
      corrupt: 0,
      hang: 0,
      degraded: 1,
      refused: 0,
      ok: 1,
    })
  })

  test('come back as they were written', async () => {
    const config = await loadConfig({ directory: '/', builtIn: [samplePlugin()] })
    const results = collectResults(config, [map], cases)
    expect(parseResults(serializeResults(results))).toEqual(results)
  })

  test('of another version are refused with the place', async () => {
    const error = await thrownBy(() => parseResults('{ "schemaVersion": 2 }', 'r.json'))
    expect(error.code).toBe('HARNESS_BAD_RESULTS')
    expect(error.found).toContain('schemaVersion')
    expect(error.file).toBe('r.json')
  })

  test('that are no JSON are refused', async () => {
    const error = await thrownBy(() => parseResults('{ "schemaVersion"'))
    expect(error.expected).toBe('JSON')
  })

  test('have a JSON Schema on file that is the current one', () => {
    const file = join(import.meta.dirname, '../src/results/results.schema.json')
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(JSON.parse(resultsJsonSchema()))
  })
})

describe('expected outcomes', () => {
  test('are sorted by case', () => {
    expect(serializeExpected(cases)).toBe(
      '{\n  "m/Q01/tuned:state=B/boot": "degraded",\n  "m/none/plain/boot": "ok",\n  "m/none/plain/kexec": "fault"\n}\n',
    )
  })

  test('make no surprise of a case that ends as it should, badly or not', () => {
    expect(surprises(cases, parseExpected(serializeExpected(cases)))).toEqual([])
  })

  test('are ok for a case that they do not name', () => {
    const found = surprises(cases, parseExpected('{ "m/none/plain/boot": "fault" }'))
    expect(found.map(({ result: { id }, expected }) => [id, expected])).toEqual([
      ['m/none/plain/boot', 'fault'],
      ['m/none/plain/kexec', 'ok'],
      ['m/Q01/tuned:state=B/boot', 'ok'],
    ])
  })

  test('with an unknown outcome are refused', async () => {
    const error = await thrownBy(() => parseExpected('{ "a/b/c/d": "fine" }', 'e.json'))
    expect(error.code).toBe('HARNESS_BAD_RESULTS')
    expect(error.file).toBe('e.json')
  })
})

test('totals count each outcome', () => {
  expect(countOutcomes(cases)).toMatchObject({ ok: 1, fault: 1, degraded: 1, hang: 0 })
})

test('a file is written whole or not at all', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'trapdoor-write-'))
  try {
    await writeFileAtomically(join(directory, 'deep/results.json'), 'first')
    await writeFileAtomically(join(directory, 'deep/results.json'), 'second')
    expect(readdirSync(join(directory, 'deep'))).toEqual(['results.json'])
    expect(readFileSync(join(directory, 'deep/results.json'), 'utf8')).toBe('second')
    const error = await thrownBy(() => writeFileAtomically(join(directory, 'deep'), 'text'))
    expect(error.code).toBe('HARNESS_UNWRITABLE_FILE')
    expect(readdirSync(directory)).toEqual(['deep'])
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('a symbolic link keeps pointing where it does', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'trapdoor-write-'))
  try {
    symlinkSync('real.json', join(directory, 'link.json'))
    for (const text of ['first', 'second']) {
      await refuseUnwritable(join(directory, 'link.json'))
      await writeFileAtomically(join(directory, 'link.json'), text)
      expect(readFileSync(join(directory, 'real.json'), 'utf8')).toBe(text)
    }
    expect(lstatSync(join(directory, 'link.json')).isSymbolicLink()).toBe(true)
    symlinkSync('round.json', join(directory, 'round.json'))
    const error = await thrownBy(() => writeFileAtomically(join(directory, 'round.json'), 'text'))
    expect(error).toMatchObject({ code: 'HARNESS_UNWRITABLE_FILE' })
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test.skipIf(process.platform === 'win32')(
  'what is no regular file is written to, not replaced (on systems with pipes)',
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'trapdoor-write-'))
    try {
      const pipe = join(directory, 'pipe')
      execFileSync('mkfifo', [pipe])
      const reader = readFile(pipe, 'utf8')
      await writeFileAtomically(pipe, 'through the pipe')
      expect(await reader).toBe('through the pipe')
      expect(lstatSync(pipe).isFIFO()).toBe(true)
    } finally {
      rmSync(directory, { recursive: true })
    }
  },
)

test.skipIf(process.platform !== 'linux')(
  'a folder that the file system denies is an error, not an endless wait (on Linux, where there is /proc)',
  async () => {
    const error = await thrownBy(() => writeFileAtomically('/proc/trapdoor/results.json', 'text'))
    expect(error).toMatchObject({ code: 'HARNESS_UNWRITABLE_FILE' })
  },
)
