import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  caseId,
  type CaseSpec,
  findCase,
  loadConfig,
  parseCaseId,
  planCases,
  type ResolvedConfig,
} from '../src/index.ts'
import { samplePlugin } from './sample-plugin.ts'
import { thrownBy } from './thrown.ts'

function configOn(...memoryMaps: string[]): Promise<ResolvedConfig> {
  return loadConfig({ directory: '/', builtIn: [samplePlugin()], overrides: { memoryMaps } })
}

function ids(specs: readonly CaseSpec[]): string[] {
  return specs.map(({ id }) => id)
}

describe('planCases', () => {
  test('crosses maps, firmware, strategies and scenarios in this order', async () => {
    const specs = planCases(await configOn('a.txt', 'b.txt'))
    expect(specs).toHaveLength(2 * 3 * 2 * 2)
    expect(ids(specs).slice(0, 5)).toEqual([
      'a/none/plain/boot',
      'a/none/plain/kexec',
      'a/none/tuned/boot',
      'a/none/tuned/kexec',
      'a/Q01/plain/boot',
    ])
    expect(specs.at(-1)!.id).toBe('b/Q02/tuned/kexec')
  })

  test('takes filters repeated and separated by commas, over what the configuration lists', async () => {
    const specs = planCases(await configOn('a.txt', 'b.txt'), {
      memoryMaps: ['b'],
      firmware: ['none,Q01+Q02', 'Q02'],
      strategies: ['tuned:state=B,area=per-cpu,plain'],
      scenarios: ['kexec'],
    })
    expect(ids(specs)).toEqual([
      'b/none/tuned:state=B,area=per-cpu/kexec',
      'b/none/plain/kexec',
      'b/Q01+Q02/tuned:state=B,area=per-cpu/kexec',
      'b/Q01+Q02/plain/kexec',
      'b/Q02/tuned:state=B,area=per-cpu/kexec',
      'b/Q02/plain/kexec',
    ])
  })

  test('gives a column one name, however its options are written', async () => {
    const specs = planCases(await configOn('a.txt'), {
      firmware: ['none'],
      strategies: ['tuned:area=per-cpu,state=A', 'tuned:area=per-cpu'],
      scenarios: ['boot'],
    })
    expect(ids(specs)).toEqual(['a/none/tuned:area=per-cpu/boot'])
  })

  test.each([
    [{ firmware: ['Q1'] }, 'did you mean "Q01"?'],
    [{ strategies: ['plaim'] }, 'did you mean "plain"?'],
    [{ strategies: ['tuned:stat=A'] }, 'did you mean "state"?'],
    [{ scenarios: ['kexex'] }, 'did you mean "kexec"?'],
    [{ memoryMaps: ['lenovo'] }, 'did you mean "lenovo-x240"?'],
  ])('names the nearest legal value for %j', async (filters, hint) => {
    const config = await configOn('lenovo-x240.txt')
    const error = await thrownBy(() => planCases(config, filters))
    expect(error.code).toBe('HARNESS_UNKNOWN_NAME')
    expect(error.hint).toBe(hint)
  })

  test('without a memory map says how to give one', async () => {
    const config = await configOn()
    const error = await thrownBy(() => planCases(config))
    expect(error.code).toBe('HARNESS_NO_MEMORY_MAP')
    expect(error.hint).toContain('--memory-map FILE')
  })
})

describe('a case id', () => {
  const word = fc.stringMatching(/^[A-Za-z][\w.-]{0,8}$/).filter((text) => text !== 'none')
  const spec = fc.record({
    memoryMapId: word,
    quirks: fc.array(word, { maxLength: 3 }),
    strategy: fc.record({
      name: word,
      options: fc.dictionary(word, word, { maxKeys: 3, noNullPrototype: true }),
    }),
    scenario: word,
    seed: fc.nat(),
  })

  test('names everything that makes the case', () => {
    fc.assert(
      fc.property(spec, (made) => {
        const id = caseId(made)
        expect(parseCaseId(id)).toEqual({ id, ...made })
      }),
    )
  })

  test('replays a case, whose names are looked up', async () => {
    const config = await configOn('a.txt')
    expect(findCase(config, 'a/second-habit/tuned:state=A/boot#9')).toEqual({
      id: 'a/Q02/tuned/boot#9',
      memoryMapId: 'a',
      quirks: ['Q02'],
      strategy: { name: 'tuned', options: {} },
      scenario: 'boot',
      seed: 9,
    })
  })

  test.each([
    'a/none/plain',
    'a/none/plain/boot/x',
    'a/none/plain/boot#x',
    'a/none/tuned:state/boot',
  ])('is not %s', async (text) => {
    const error = await thrownBy(() => parseCaseId(text))
    expect(error.code).toBe('HARNESS_BAD_CASE_ID')
  })
})
