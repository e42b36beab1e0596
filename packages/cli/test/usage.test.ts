import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { emptyFolder } from './folder.ts'
import { trapdoor } from './terminal.ts'

describe('help', () => {
  test('lists the commands and the exit codes', async () => {
    const { code, stdout } = await trapdoor(['--help'], { cwd: emptyFolder() })
    expect(code).toBe(0)
    expect(stdout).toMatchInlineSnapshot(`
      "Usage: trapdoor [options] [command]

      which page-table strategy survives on which firmware, and why

      Options:
        -V, --version                      output the version number
        -h, --help                         display help for command

      Commands:
        run [options]                      run the matrix of firmware, strategies and scenarios
        explain [options] <case>           run one case again and tell what happened
        compare [options] <strategies...>  what differs between strategies
        recommend [options]                which strategy to take for a machine, and why
        inspect                            look at a memory map, at page tables, or at one address
        verify [options] <folder>          hold the model against boots of real kernels
        replay [options] <folder>          run recorded calls of a firmware again, and compare
        guest [options] <file>             run a Multiboot image on the emulated CPU
        capture [options] [firmware]       boot a real firmware in QEMU and keep it as a snapshot
        list [options] [kind]              quirks, strategies, scenarios, rules and plugins there are
        show [options] [file]              print results that an earlier run wrote
        init [options]                     write a configuration to start from
        help [command]                     display help for command

      Examples:
        trapdoor run --memory-map dmesg.txt         every firmware, strategy and scenario on this machine
        trapdoor run -f none,Q06 --scenario kexec   a part of it
        trapdoor explain dmesg/none/legacy-virtual/kexec
        trapdoor compare legacy-virtual private-efi-pgd

      Exit codes:
        0 as expected   1 a case did not end as expected   2 wrong usage or input   130 interrupted

      "
    `)
  })
})

describe('help of a command', () => {
  test.each(['list', 'verify'])('%s offers no machine, as it reads none', async (command) => {
    const { stdout } = await trapdoor([command, '--help'], { cwd: emptyFolder() })
    expect(stdout).toContain('--config')
    expect(stdout).not.toMatch(/--(?:memory-map|snapshot|command-line|instruction-limit)/)
  })

  test('capture fits into 100 columns', async () => {
    const { stdout } = await trapdoor(['capture', '--help'], { cwd: emptyFolder() })
    expect(stdout).toContain('written as a\nsnapshot')
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100)
  })
})

describe('a mistyped', () => {
  test.each([
    ['command', ['rum'], "unknown command 'rum'", 'did you mean "run"?'],
    [
      'option',
      ['run', '--firmwear', 'Q01'],
      "unknown option '--firmwear'",
      'did you mean "--firmware"?',
    ],
  ])('%s is an error of usage with what was meant', async (_kind, args, message, hint) => {
    const { code, stdout, stderr } = await trapdoor(args, { cwd: emptyFolder() })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toBe(`error TRAPDOOR_USAGE: ${message}\n  hint: ${hint}\n`)
  })

  test('name of a strategy is an error of usage with what was meant', async () => {
    const { code, stderr } = await trapdoor(['run', '-m', 'a.txt', '-s', 'legacy-virtal'], {
      cwd: emptyFolder(),
    })
    expect(code).toBe(2)
    expect(stderr).toBe(
      'error HARNESS_UNKNOWN_NAME: expected a strategy, found "legacy-virtal"\n  hint: did you mean "legacy-virtual"?\n',
    )
  })
})

test('a run without a memory map says how to give one', async () => {
  const { code, stderr } = await trapdoor(['run'], { cwd: emptyFolder() })
  expect(code).toBe(2)
  expect(stderr).toContain('hint: --memory-map FILE takes the kernel log of a real machine')
})

test.each([
  [['replay', 'text'], 'SNAPSHOT_NOT_FOUND', 'found a file'],
  [['verify', 'text'], 'HARNESS_UNREADABLE_FILE', 'found a file'],
  [['run', '--snapshot', 'text'], 'SNAPSHOT_NOT_FOUND', 'found a file'],
  [['inspect', 'map', 'folder'], 'HARNESS_UNREADABLE_FILE', 'found a folder'],
  [['run', '-m', 'snapshot'], 'HARNESS_UNREADABLE_FILE', '`trapdoor run --snapshot` takes it'],
  [['show', 'text'], 'HARNESS_BAD_RESULTS', 'expected JSON'],
] as const)(
  '%j says what is in the place of what it needs, and shows no stack',
  async (args, code, said) => {
    const cwd = emptyFolder()
    writeFileSync(join(cwd, 'text'), 'nothing of the kind\n')
    mkdirSync(join(cwd, 'folder'))
    mkdirSync(join(cwd, 'snapshot'))
    writeFileSync(join(cwd, 'snapshot', 'snapshot.json'), '{}')
    const ended = await trapdoor([...args], { cwd })
    expect(ended.code).toBe(2)
    expect(ended.stderr).toContain(`error ${code}: `)
    expect(ended.stderr).toContain(said)
    expect(ended.stderr).not.toMatch(/^\s+at .*\(/m)
  },
)

test('an error in a configuration names file and line', async () => {
  const cwd = emptyFolder()
  writeFileSync(join(cwd, 'trapdoor.config.json'), '{\n  "memorymaps": []\n}\n')
  const { code, stderr } = await trapdoor(['run'], { cwd })
  expect(code).toBe(2)
  expect(stderr).toBe(
    'error HARNESS_BAD_CONFIG: expected a setting that Trapdoor has, found "memorymaps" in the configuration\n' +
      '  at trapdoor.config.json:2\n  hint: did you mean "memoryMaps"?\n',
  )
})

describe('init', () => {
  test.each(['ts', 'json', 'yaml'])('writes a configuration in %s', async (format) => {
    const cwd = emptyFolder()
    const { code, stdout } = await trapdoor(['init', '--format', format], { cwd })
    expect(code).toBe(0)
    expect(stdout).toContain(`wrote trapdoor.config.${format}\n`)
    expect(readFileSync(join(cwd, `trapdoor.config.${format}`), 'utf8')).toContain('machine.txt')
  })

  test.each(['json', 'yaml'])('writes %s that the other commands read', async (format) => {
    const cwd = emptyFolder()
    await trapdoor(['init', '--format', format], { cwd })
    const { code, stdout } = await trapdoor(['list', 'scenarios'], { cwd })
    expect(code).toBe(0)
    expect(stdout).toContain('kexec')
  })

  test('never overwrites', async () => {
    const cwd = emptyFolder()
    writeFileSync(join(cwd, 'trapdoor.config.yaml'), 'seed: 7\n')
    const { code, stderr } = await trapdoor(['init', '--yes'], { cwd })
    expect(code).toBe(2)
    expect(stderr).toContain('trapdoor.config.yaml')
    expect(readFileSync(join(cwd, 'trapdoor.config.yaml'), 'utf8')).toBe('seed: 7\n')
  })
})

describe('list', () => {
  test.each([
    ['quirks', ['Q01', 'Q06', 'Q44']],
    [
      'strategies',
      ['legacy-virtual', 'private-efi-pgd', 'global-identity-map', 'virtual-address-passing'],
    ],
    ['scenarios', ['boot', 'services', 'kexec', 'kdump']],
    ['rules', ['H9']],
    ['plugins', ['@trapdoor/firmware-svam', '@trapdoor/rule-hazards']],
  ])('%s has what is built in', async (kind, names) => {
    const { code, stdout } = await trapdoor(['list', kind], { cwd: emptyFolder() })
    expect(code).toBe(0)
    const first = stdout.split('\n').map((line) => line.split(' ')[0])
    expect(first).toEqual(expect.arrayContaining(names))
  })

  test('has what the plugins of the configuration bring', async () => {
    const cwd = emptyFolder()
    mkdirSync(join(cwd, 'habits'))
    writeFileSync(
      join(cwd, 'habits/acme.mjs'),
      "export default { name: 'acme', apiVersion: 1, quirks: [{ id: 'A1', name: 'acme-habit', title: 'Acme', sources: [], hooks: {} }] }",
    )
    writeFileSync(join(cwd, 'trapdoor.config.json'), '{ "plugins": ["./habits/acme.mjs"] }')
    const { stdout } = await trapdoor(['list', 'quirks'], { cwd })
    expect(stdout).toMatch(/^A1 +acme-habit +Acme \(acme\)$/m)
  })
})

test('a configuration that imports a package that is not installed is told so, with a way out', async () => {
  const cwd = emptyFolder()
  writeFileSync(
    join(cwd, 'trapdoor.config.mjs'),
    "import 'trapdoor-plugin-absent'\nexport default {}\n",
  )
  const { code, stderr } = await trapdoor(['run'], { cwd })
  expect(code).toBe(2)
  expect(stderr).toContain("Cannot find package 'trapdoor-plugin-absent'")
  expect(stderr).toContain('hint: npm install trapdoor-plugin-absent beside the configuration')
})
