import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  createEnvironment,
  explainCommand,
  fromSnapshot,
  loadConfig,
  type ResolvedConfig,
} from '../src/index.ts'
import { samplePlugin } from './sample-plugin.ts'
import { thrownBy } from './thrown.ts'

let directory: string

beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), 'trapdoor-config-')))
})

afterEach(() => {
  rmSync(directory, { recursive: true })
})

function write(name: string, text: string): void {
  const file = join(directory, name)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
}

function load(file?: string): Promise<ResolvedConfig> {
  return loadConfig({ directory, file, builtIn: [samplePlugin()] })
}

const PLUGIN_SOURCE = `export default {
  name: 'trapdoor-plugin-acme',
  apiVersion: 1,
  quirks: [{ id: 'A1', name: 'acme-habit', title: 'Acme', sources: ['a log'], hooks: {} }],
}
`

describe('without a configuration file', () => {
  test('everything that the plugins bring is in the matrix', async () => {
    const config = await load()
    expect(config.quirkSets).toEqual([[], ['Q01'], ['Q02']])
    expect(config.strategies).toEqual([
      { name: 'plain', options: {} },
      { name: 'tuned', options: {} },
    ])
    expect(config.scenarios).toEqual(['boot', 'kexec'])
    expect(config).toMatchObject({ file: undefined, memoryMaps: [], cpu: undefined, seed: 1 })
    expect(config.instructionLimit).toBe(100_000_000)
  })

  test('memory maps come from the caller and get ids from their names', async () => {
    const config = await loadConfig({
      directory,
      builtIn: [samplePlugin()],
      overrides: { memoryMaps: ['logs/Lenovo X240.dmesg.txt', 'second=logs/x.txt'] },
    })
    expect(config.memoryMaps).toEqual([
      {
        id: 'Lenovo-X240.dmesg',
        file: join(directory, 'logs/Lenovo X240.dmesg.txt'),
        label: 'logs/Lenovo X240.dmesg.txt',
        argument: 'logs/Lenovo X240.dmesg.txt',
      },
      {
        id: 'second',
        file: join(directory, 'logs/x.txt'),
        label: 'logs/x.txt',
        argument: 'second=logs/x.txt',
      },
    ])
    expect(explainCommand(config, 'second/none/plain/boot')).toBe(
      'trapdoor explain second/none/plain/boot --memory-map second=logs/x.txt',
    )
    expect(explainCommand(config, 'Lenovo-X240.dmesg/none/plain/boot#2')).toBe(
      "trapdoor explain Lenovo-X240.dmesg/none/plain/boot#2 --memory-map 'logs/Lenovo X240.dmesg.txt'",
    )
  })

  test('a memory map can be that of a machine whose firmware has 32 bits', async () => {
    const memoryMaps = ['ia32:logs/tablet.txt', 'second=ia32:logs/x.txt', 'third=x64:logs/y.txt']
    const overrides = { memoryMaps }
    const config = await loadConfig({ directory, builtIn: [samplePlugin()], overrides })
    expect(config.memoryMaps).toMatchObject([
      { id: 'tablet', file: join(directory, 'logs/tablet.txt'), architecture: 'ia32' },
      { id: 'second', file: join(directory, 'logs/x.txt'), architecture: 'ia32' },
      { id: 'third', file: join(directory, 'logs/y.txt') },
    ])
    expect(config.memoryMaps[2]).not.toHaveProperty('architecture')
    expect(explainCommand(config, 'second/none/plain/boot')).toBe(
      'trapdoor explain second/none/plain/boot --memory-map second=ia32:logs/x.txt',
    )
    write(
      'trapdoor.config.json',
      '{ "memoryMaps": [{ "id": "a", "file": "a.txt", "architecture": "ia32" }] }',
    )
    expect((await load()).memoryMaps).toMatchObject([{ id: 'a', architecture: 'ia32' }])
    write(
      'trapdoor.config.json',
      '{ "memoryMaps": [{ "id": "a", "file": "a.txt", "architecture": "ia64" }] }',
    )
    expect(await thrownBy(load)).toMatchObject({ code: 'HARNESS_BAD_CONFIG' })
  })
})

describe('real firmware', () => {
  test('comes as a folder from the command line, in place of memory maps', async () => {
    write('trapdoor.config.json', '{ "memoryMaps": ["a.txt"] }')
    const config = await loadConfig({
      directory,
      builtIn: [samplePlugin()],
      overrides: { snapshots: ['captures/ovmf-2022.11', 'second=captures/x'] },
    })
    expect(config.memoryMaps).toEqual([
      {
        id: 'ovmf-2022.11',
        file: join(directory, 'captures/ovmf-2022.11'),
        label: 'captures/ovmf-2022.11',
        argument: 'captures/ovmf-2022.11',
        kind: 'snapshot',
      },
      {
        id: 'second',
        file: join(directory, 'captures/x'),
        label: 'captures/x',
        argument: 'second=captures/x',
        kind: 'snapshot',
      },
    ])
    expect(explainCommand(config, 'second/none/plain/boot')).toBe(
      'trapdoor explain second/none/plain/boot --snapshot second=captures/x',
    )
  })

  test('stands among the memory maps of a configuration, and says what it is built for', async () => {
    write('captures/old/snapshot.json', '{ "architecture": "ia32" }')
    write('captures/new/snapshot.json', '{}')
    expect(fromSnapshot('captures/new')).toEqual({ snapshot: 'captures/new' })
    const entries = [
      { id: 'ovmf', firmware: fromSnapshot('captures/new') },
      fromSnapshot('captures/old'),
      'a.txt',
    ]
    write('trapdoor.config.json', JSON.stringify({ memoryMaps: entries }))
    const { memoryMaps } = await load()
    expect(memoryMaps).toMatchObject([
      { id: 'ovmf', file: join(directory, 'captures/new'), kind: 'snapshot', architecture: 'x64' },
      { id: 'old', file: join(directory, 'captures/old'), kind: 'snapshot', architecture: 'ia32' },
      { id: 'a', file: join(directory, 'a.txt') },
    ])
    expect(memoryMaps[2]).not.toHaveProperty('kind')
  })

  test('that is not there is found out when it is to run', async () => {
    const config = await loadConfig({
      directory,
      builtIn: [samplePlugin()],
      overrides: { snapshots: ['nowhere'] },
    })
    expect(() => createEnvironment(config)).toThrow(
      expect.objectContaining({ code: 'SNAPSHOT_NOT_FOUND', file: join(directory, 'nowhere') }),
    )
  })
})

describe('a configuration file', () => {
  test.each([
    ['trapdoor.config.json', '{ "seed": 7, /* why not */ "memoryMaps": ["a.txt"], }'],
    ['trapdoor.config.yaml', 'seed: 7\nmemoryMaps: [a.txt]\n'],
    ['trapdoor.config.mjs', 'export default { seed: 7, memoryMaps: ["a.txt"] }'],
    [
      'trapdoor.config.mts',
      'const seed: number = 7\nexport default { seed, memoryMaps: ["a.txt"] }',
    ],
    ['package.json', '{ "name": "x", "trapdoor": { "seed": 7, "memoryMaps": ["a.txt"] } }'],
  ])('is found as %s', async (name, text) => {
    write(name, text)
    const config = await load()
    expect(config.seed).toBe(7)
    expect(config.memoryMaps).toEqual([{ id: 'a', file: join(directory, 'a.txt'), label: 'a.txt' }])
    expect(config.file).toBe(join(directory, name))
  })

  test('makes paths relative to itself, not to the working directory', async () => {
    write('inside/my.json', '{ "memoryMaps": ["a.txt"], "expect": "e.json", "output": "o.json" }')
    const config = await load('inside/my.json')
    expect(config.memoryMaps[0]!.file).toBe(join(directory, 'inside/a.txt'))
    expect(config.expect).toBe(join(directory, 'inside/e.json'))
    expect(config.output).toBe(join(directory, 'inside/o.json'))
    expect(config.commandArguments).toEqual(['--config', 'inside/my.json'])
  })

  test('chooses cells: sets of quirks, options of strategies', async () => {
    write(
      'trapdoor.config.json',
      `{ "firmware": ["none", ["Q01", "second-habit"], "Q01+Q02"],
         "strategies": ["plain", ["tuned", { "area": "per-cpu", "state": "A" }]],
         "scenarios": ["kexec"] }`,
    )
    const config = await load()
    expect(config.quirkSets).toEqual([[], ['Q01', 'Q02']])
    expect(config.strategies).toEqual([
      { name: 'plain', options: {} },
      { name: 'tuned', options: { area: 'per-cpu' } },
    ])
    expect(config.scenarios).toEqual(['kexec'])
  })

  test.each([
    ['trapdoor.config.json', '{\n  "seed": 1,\n  "senarios": ["boot"]\n}', 3],
    ['trapdoor.config.yaml', 'seed: 1\nsenarios:\n  - boot\n', 2],
    ['package.json', '{\n  "trapdoor": {\n    "senarios": []\n  }\n}', 3],
    ['trapdoor.config.mjs', 'export default { senarios: [] }', undefined],
  ])('with an unknown setting is refused with its place (%s)', async (name, text, line) => {
    write(name, text)
    const error = await thrownBy(() => load())
    expect(error.code).toBe('HARNESS_BAD_CONFIG')
    expect(error.found).toBe('"senarios" in the configuration')
    expect(error.hint).toBe('did you mean "scenarios"?')
    expect(error.file).toBe(join(directory, name))
    expect(error.line).toBe(line)
  })

  test('says how many instructions a call of a real firmware may take, unless the caller does', async () => {
    write('trapdoor.config.json', '{ "instructionLimit": 2000000 }')
    expect((await load()).instructionLimit).toBe(2_000_000)
    const overrides = { instructionLimit: 5 }
    const config = await loadConfig({ directory, builtIn: [samplePlugin()], overrides })
    expect(config.instructionLimit).toBe(5)
    expect(explainCommand(config, 'a/none/plain/boot')).toBe(
      'trapdoor explain a/none/plain/boot --instruction-limit 5',
    )
    write('trapdoor.config.json', '{ "instructionLimit": 0 }')
    expect((await thrownBy(() => load())).found).toContain('instructionLimit')
  })

  test('with a value of the wrong kind is refused with its place', async () => {
    write('trapdoor.config.json', '{\n  "kernel": {\n    "commandLine": 7\n  }\n}')
    const error = await thrownBy(() => load())
    expect(error.message).toBe('expected string, found number in kernel.commandLine')
    expect(error.line).toBe(3)
  })

  test('with an unknown name is refused with its line and the nearest legal name', async () => {
    write('trapdoor.config.json', '{\n  "firmware": [\n    "none",\n    "Q03"\n  ]\n}')
    const error = await thrownBy(() => load())
    expect(error.code).toBe('HARNESS_UNKNOWN_NAME')
    expect(error.found).toBe('"Q03" in firmware[1]')
    expect(error.hint).toBe('did you mean "Q01"?')
    expect(error.line).toBe(4)
  })

  test('may write the options of a strategy as the command line does', async () => {
    write(
      'trapdoor.config.json',
      '{ "strategies": ["tuned:state=B", ["tuned", { "state": "B" }]] }',
    )
    expect((await load()).strategies).toEqual([{ name: 'tuned', options: { state: 'B' } }])
  })

  test('with an unknown value of an option names the legal ones', async () => {
    write('trapdoor.config.json', '{ "strategies": [["tuned", { "state": "XYZ" }]] }')
    const error = await thrownBy(() => load())
    expect(error.found).toBe('"XYZ" in strategies[0]')
    expect(error.hint).toBe('legal are A, B')
  })

  test.each([
    ['trapdoor.config.json', '{\n  "seed": 1,\n  oops\n}', 3],
    ['trapdoor.config.yaml', 'seed: 1\nfirmware: [none\n', 3],
    ['trapdoor.config.ts', 'export default {\n  seed: 1 2,\n}\n', 2],
    ['trapdoor.config.mjs', '\nexport default {\n  seed: 1 2,\n}\n', 3],
  ])('that cannot be read is refused with the line (%s)', async (name, text, line) => {
    write(name, text)
    const error = await thrownBy(() => load())
    expect(error.code).toBe('HARNESS_CONFIG_SYNTAX')
    expect(error.line).toBe(line)
  })

  test('that was named and is not there is an error, not a default', async () => {
    const error = await thrownBy(() => load('absent.json'))
    expect(error.code).toBe('HARNESS_CONFIG_NOT_FOUND')
    expect(error.file).toBe(join(directory, 'absent.json'))
  })

  test('with two maps of one id says how to tell them apart', async () => {
    write('trapdoor.config.json', '{ "memoryMaps": ["a/dmesg.txt", "b/dmesg.txt"] }')
    const error = await thrownBy(() => load())
    expect(error.code).toBe('HARNESS_DUPLICATE_NAME')
    expect(error.hint).toContain('id=FILE')
  })
})

describe('plugins of a configuration', () => {
  test('resolve from the directory of the file that names them', async () => {
    write('inside/plugin.mjs', PLUGIN_SOURCE)
    write('inside/my.json', '{ "plugins": ["./plugin.mjs"] }')
    const { registry } = await load('inside/my.json')
    expect(registry.pluginOf('quirk', 'A1')).toBe('trapdoor-plugin-acme')
  })

  test('have short names, and packages that only know import', async () => {
    write('node_modules/trapdoor-plugin-acme/index.js', PLUGIN_SOURCE)
    write(
      'node_modules/trapdoor-plugin-acme/package.json',
      '{ "name": "trapdoor-plugin-acme", "type": "module", "exports": { ".": { "import": "./index.js" } } }',
    )
    write('trapdoor.config.yaml', 'plugins: [acme]\n')
    const { registry } = await load()
    expect([...registry.quirks.keys()]).toEqual(['Q01', 'Q02', 'A1'])
  })

  test('may be made from options', async () => {
    write(
      'plugin.mjs',
      PLUGIN_SOURCE.replace('default {', 'default (id) => ({')
        .replace("'A1'", 'id')
        .replace(/\}\n$/, '})\n'),
    )
    write('trapdoor.config.json', '{ "plugins": [["./plugin.mjs", "A7"]] }')
    const { registry } = await load()
    expect(registry.quirk('acme-habit').id).toBe('A7')
  })

  test('that throw are named, with the cause', async () => {
    write('plugin.mjs', 'throw new RangeError("no licence")')
    write('trapdoor.config.json', '{\n  "plugins": [\n    "./plugin.mjs"\n  ]\n}')
    const error = await thrownBy(() => load())
    expect(error.code).toBe('HARNESS_PLUGIN_THREW')
    expect(error.expected).toBe('plugin "./plugin.mjs" to load')
    expect(error.found).toBe('RangeError: no licence, while its module was loaded in plugins[0]')
    expect(error.line).toBe(3)
  })

  test('that are not installed are refused with the places that were tried', async () => {
    write('trapdoor.config.json', '{ "plugins": ["nowhere"] }')
    const error = await thrownBy(() => load())
    expect(error.code).toBe('HARNESS_PLUGIN_NOT_FOUND')
    expect(error.hint).toContain('@trapdoor/firmware-nowhere')
  })
})
