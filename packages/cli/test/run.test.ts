import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { parseResults } from '@trapdoor/harness'
import { describe, expect, test } from 'vitest'
import { emptyFolder } from './folder.ts'
import { trapdoor } from './terminal.ts'

const SNAPSHOT = join(import.meta.dirname, '../../../../shared/data/observed/snapshots/pc-2M-512M')
const DEMO_MAP = join(import.meta.dirname, '../../../configs/demo/ovmf-pc-2m.txt')
const FEW = ['--firmware', 'none', '--strategy', 'legacy-virtual', '--scenario', 'boot,kexec']

function folderWithMap(): string {
  const cwd = emptyFolder()
  copyFileSync(DEMO_MAP, join(cwd, 'machine.txt'))
  return cwd
}

describe('run', () => {
  test('writes what it prints, and tells by its exit code that something died', async () => {
    const cwd = folderWithMap()
    const { code, stdout, stderr } = await trapdoor(['run', '-m', 'machine.txt', ...FEW], { cwd })
    const results = parseResults(readFileSync(join(cwd, 'results.json'), 'utf8'))
    expect(results.cases.map(({ id, outcome }) => `${id} ${outcome}`)).toEqual([
      'machine/none/legacy-virtual/boot ok',
      'machine/none/legacy-virtual/kexec fault',
    ])
    expect(code).toBe(1)
    expect(stderr).toBe('machine: 2 cases run\n')
    expect(stdout).toContain('trapdoor explain machine/none/legacy-virtual/kexec')
    expect(stdout).toContain('2 cases: 1 ok, 1 fault\nresults in results.json\n')
  })

  test('prints the same bytes for the same seed', async () => {
    const args = ['run', '-m', 'machine.txt', ...FEW, '--output', '-', '--seed', '5']
    const cwd = folderWithMap()
    const first = await trapdoor(args, { cwd })
    const second = await trapdoor(args, { cwd })
    expect(first.stdout).toBe(second.stdout)
    expect(parseResults(first.stdout).cases[0]!.id).toBe('machine/none/legacy-virtual/boot#5')
  })

  test.each([['--no-output'], ['--output', '-']])('writes no file with %s %s', async (...flags) => {
    const cwd = folderWithMap()
    await trapdoor(['run', '-m', 'machine.txt', ...FEW, ...flags], { cwd })
    expect(readdirSync(cwd)).toEqual(['machine.txt'])
  })

  test('says beforehand that results cannot be kept', async () => {
    const cwd = folderWithMap()
    mkdirSync(join(cwd, 'results.json'))
    const { code, stdout, stderr } = await trapdoor(['run', '-m', 'machine.txt', ...FEW], { cwd })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/^error HARNESS_UNWRITABLE_FILE: .*\n {2}at results\.json\n/)
    expect(readdirSync(cwd).toSorted()).toEqual(['machine.txt', 'results.json'])
  })

  test("ends at once where a plugin's hook does not", async () => {
    const cwd = folderWithMap()
    writeFileSync(
      join(cwd, 'acme.mjs'),
      "export default { name: 'acme', apiVersion: 1, quirks: [{ id: 'A1', name: 'loops', title: 'Loops', sources: [], hooks: { beforeService: () => { for (;;); } } }] }",
    )
    writeFileSync(join(cwd, 'trapdoor.config.json'), '{ "plugins": ["./acme.mjs"] }')
    const interrupt = new AbortController()
    const ran = trapdoor(
      ['run', '-m', 'machine.txt', '-f', 'A1', '-s', 'xen', '--scenario', 'boot'],
      { cwd, signal: interrupt.signal },
    )
    setTimeout(() => interrupt.abort(), 2000)
    expect(await ran).toMatchObject({ code: 130, stderr: 'interrupted after 0 of 1 cases\n' })
  })

  test('leaves nothing half-written when interrupted', async () => {
    const cwd = folderWithMap()
    const signal = AbortSignal.abort()
    const ran = await trapdoor(['run', '-m', 'machine.txt', ...FEW], { cwd, signal })
    expect(ran).toEqual({ code: 130, stdout: '', stderr: 'interrupted after 0 of 2 cases\n' })
    expect(existsSync(join(cwd, 'results.json'))).toBe(false)
  })

  test('rewrites one line of progress on a terminal and takes it away at the end', async () => {
    const { stderr } = await trapdoor(['run', '-m', 'machine.txt', ...FEW], {
      cwd: folderWithMap(),
      isTTY: true,
    })
    expect(stderr).toBe('\r\u001B[2K1/2 machine\r\u001B[2K')
  })

  test('says how much there is to do, and how much is done', async () => {
    const args = [
      '-f',
      '*',
      '-s',
      '*',
      '--scenario',
      'boot,services',
      '--command-line',
      'noefi',
      '--jobs',
      '1',
      '--no-output',
    ]
    const { stderr } = await trapdoor(['run', '-m', 'machine.txt', ...args], {
      cwd: folderWithMap(),
    })
    const [, total] = /^(\d+) cases to run: -f, -s and --scenario choose fewer\n/.exec(stderr)!
    expect(Number(total)).toBeGreaterThan(1000)
    expect(stderr).toContain(`\n1000/${total} machine\n`)
    expect(stderr).toContain(`machine: ${total} cases run\n`)
  })

  test('is content with an outcome that is expected, and points out one that is not', async () => {
    const cwd = folderWithMap()
    writeFileSync(
      join(cwd, 'trapdoor.config.json'),
      '{ "memoryMaps": ["machine.txt"], "expect": "expected.json" }',
    )
    const missing = await trapdoor(['run', ...FEW], { cwd })
    expect(missing.code).toBe(2)
    expect(missing.stderr).toContain('--update-expected')

    expect((await trapdoor(['run', ...FEW, '--update-expected'], { cwd })).code).toBe(0)
    const content = await trapdoor(['run', ...FEW], { cwd })
    expect(content.code).toBe(0)
    expect(content.stdout).toContain('all as expected in expected.json\n')

    const file = join(cwd, 'expected.json')
    writeFileSync(file, readFileSync(file, 'utf8').replace('"fault"', '"ok"'))
    const surprised = await trapdoor(['run', ...FEW], { cwd })
    expect(surprised.code).toBe(1)
    expect(surprised.stdout).toContain(
      '1 case not as expected in expected.json:\n  machine/none/legacy-virtual/kexec  expected ok, was fault\n',
    )
  })

  test('names the command of the workspace when it runs there', async () => {
    const { stdout } = await trapdoor(['run', '-m', 'machine.txt', ...FEW], {
      cwd: folderWithMap(),
      env: { npm_package_name: 'trapdoor-monorepo' },
    })
    expect(stdout).toContain('pnpm trapdoor explain machine/none/legacy-virtual/kexec')
  })
})

describe('run, of a map that its reader has doubts about', () => {
  test('says so with file and line', async () => {
    const cwd = folderWithMap()
    const lines = readFileSync(join(cwd, 'machine.txt'), 'utf8').split('\n')
    const last = lines.findLastIndex((line) => line.includes(' efi: mem1'))
    writeFileSync(join(cwd, 'cut.txt'), lines.slice(0, last + 1).join('\n') + '\n')
    const { stdout } = await trapdoor(['run', '-m', 'cut.txt', ...FEW], { cwd })
    expect(stdout).toContain(`\n  warning cut.txt:${last + 1}: the text ends with this entry`)
  })
})

describe('explain', () => {
  test('tells a case from what ran to the command that repeats it', async () => {
    const { code, stdout } = await trapdoor(
      ['explain', '-m', 'machine.txt', 'machine/none/legacy-virtual/kexec'],
      { cwd: folderWithMap() },
    )
    expect(code).toBe(0)
    const headings = stdout.split('\n').filter((line) => /^[A-Z][a-z]/.test(line))
    expect(headings).toEqual([
      'What ran',
      'How it ended',
      'What happened',
      expect.stringMatching(/^Finding/),
      'What the services answered',
      'Again',
    ])
    expect(stdout).toContain('✗ fault: the machine is dead')
    expect(stdout).toMatch(/PML4E +table 0x[0-9a-f]+\[\d+\] += 0x/)
    expect(stdout).toContain(
      'trapdoor explain machine/none/legacy-virtual/kexec --memory-map machine.txt',
    )
    expect(stdout).toContain('none: firmware without quirks, as edk2 behaves')
  })

  test.skipIf(!existsSync(SNAPSHOT))(
    'says of a snapshot that its firmware runs (skipped where the shared data is absent)',
    async () => {
      const args = ['explain', '--snapshot', `real=${SNAPSHOT}`, 'real/none/linux-6.1/boot']
      const { code, stdout } = await trapdoor(args, { cwd: emptyFolder() })
      expect(code).toBe(0)
      expect(stdout).toContain('none: the firmware of the snapshot, with nothing added')
    },
  )

  test('shows with --all what it else folds', async () => {
    const cwd = folderWithMap()
    const args = ['explain', 'machine/none/legacy-virtual/services', '-m', 'machine.txt']
    const folded = await trapdoor(args, { cwd })
    const all = await trapdoor([...args, '--all'], { cwd })
    expect(folded.stdout).toContain('(--all shows each)')
    expect(all.stdout).not.toContain('(--all shows each)')
    expect(all.stdout.split('\n').length).toBeGreaterThan(folded.stdout.split('\n').length)
  })

  test('names the strategy that the command line chose in place of the case’s own, and so does run', async () => {
    const cwd = folderWithMap()
    const words = ['-m', 'machine.txt', '--command-line', 'virtefi']
    const id = 'machine/none/private-efi-pgd/boot'
    const explained = await trapdoor(['explain', id, ...words], { cwd })
    expect(explained.stdout).toMatch(
      /ran in its place, as the command line "virtefi" says: legacy-virtual:\s/,
    )
    const cell = ['--firmware', 'none', '--strategy', 'private-efi-pgd', '--scenario', 'boot']
    const ran = await trapdoor(['run', ...words, ...cell, '--no-output'], { cwd })
    expect(ran.stdout).toContain(
      'private-efi-pgd did not run: the command line "virtefi" chose legacy-virtual',
    )
    const own = await trapdoor(['explain', id, '-m', 'machine.txt'], { cwd })
    expect(own.stdout).not.toContain('ran in its place')
    // A first kernel that is another's by the scenario, and that dies, is nobody's choice.
    const others = await trapdoor(
      [
        'run',
        '-m',
        'machine.txt',
        '-f',
        'Q20',
        '-s',
        'linux-6.1',
        '--scenario',
        'boot',
        'kexec-from-old',
        '--no-output',
      ],
      { cwd },
    )
    expect(others.stdout).not.toContain('did not run')
  })

  test('of a service that failed begins with its answer, and calls a finding that did no harm a remark', async () => {
    const cwd = folderWithMap()
    writeFileSync(
      join(cwd, 'trapdoor.config.mjs'),
      `export default {
        memoryMaps: [{ id: 'machine', file: 'machine.txt' }],
        plugins: [{
          name: 'test', apiVersion: 1,
          quirks: [{
            id: 'T1', name: 'no-clock', title: 'GetTime fails', sources: ['a test'],
            hooks: { beforeService: ({ service }) => service === 'GetTime' ? 0x8000000000000007n : undefined },
          }],
        }],
        firmware: ['T1'], strategies: ['linux-3.14'], scenarios: ['boot'],
      }`,
    )
    const { stdout } = await trapdoor(['explain', 'machine/T1/linux-3.14/boot'], { cwd })
    const headings = stdout.split('\n').filter((line) => /^[A-Z][a-z]/.test(line))
    expect(headings.slice(3, 5)).toEqual([
      'What the services answered',
      'Remark 1 of 2 (it did no harm this time)',
    ])
    expect(stdout).toMatch(/✗ GetTime +EFI_DEVICE_ERROR/)
    const ran = await trapdoor(['run', '--no-output'], { cwd })
    expect(ran.stdout).toContain('~ degraded 1  GetTime: EFI_DEVICE_ERROR\n')
  })

  test('refuses a case that cannot be', async () => {
    const { code, stderr } = await trapdoor(
      ['explain', 'machine/none/kexec', '-m', 'machine.txt'],
      {
        cwd: folderWithMap(),
      },
    )
    expect(code).toBe(2)
    expect(stderr).toContain('expected a case as map/firmware/strategy/scenario')
  })
})

describe('compare', () => {
  const CELLS = ['-f', 'none', '--scenario', 'boot,kexec']
  const STRATEGIES = ['legacy-virtual', 'private-efi-pgd', '-m', 'machine.txt', ...CELLS]

  test('says where outcomes, costs and ranges differ', async () => {
    const { code, stdout } = await trapdoor(['compare', ...STRATEGIES], { cwd: folderWithMap() })
    expect(code).toBe(0)
    expect(stdout).toContain(
      'legacy-virtual ✗ fault against private-efi-pgd ✓ ok in 1 cell\n      kexec · none · machine\n',
    )
    expect(stdout).toMatch(/page tables +\d/)
    expect(stdout).toMatch(/only (?:legacy-virtual|private-efi-pgd): R[OW] N?X/)
  })

  test('knows no tables of a strategy that called nothing', async () => {
    const args = ['compare', 'legacy-virtual', 'xen', 'xen:rs=off', '-m', 'machine.txt']
    const { stdout } = await trapdoor([...args, '-f', 'none', '--scenario', 'boot'], {
      cwd: folderWithMap(),
    })
    expect(stdout).toContain('  xen:rs=off called no service here: its tables are not known\n')
    expect(stdout).toMatch(/only (?:legacy-virtual|xen): R[OW] N?X/)
  })

  test('takes a second word after --scenario for what it is', async () => {
    const args = ['compare', 'legacy-virtual', 'xen', '-m', 'machine.txt', '--scenario', 'boot']
    const { code, stderr } = await trapdoor([...args, 'kexec'], { cwd: folderWithMap() })
    expect(code).toBe(2)
    expect(stderr).toContain('HARNESS_BAD_ARGUMENT: expected a strategy, found "kexec"')
    expect(stderr).toContain('--scenario A,kexec')
  })

  test('fails for a difference only when asked to', async () => {
    const { code } = await trapdoor(['compare', ...STRATEGIES, '--fail-on-difference'], {
      cwd: folderWithMap(),
    })
    expect(code).toBe(1)
  })

  test('finds no difference of a strategy to itself', async () => {
    const args = ['compare', 'legacy-virtual', 'legacy-virtual', '-m', 'machine.txt', ...CELLS]
    const { stdout } = await trapdoor([...args, '--fail-on-difference'], { cwd: folderWithMap() })
    expect(stdout).toContain('the same in all 2 cells')
    expect(stdout).toContain('the same ranges with the same rights')
    expect(stdout).not.toContain('differs')
  })
})

describe('inspect', () => {
  test('map prints what a text holds, as JSON for programs', async () => {
    const { code, stdout } = await trapdoor(['inspect', 'map', 'machine.txt', '-r', 'json'], {
      cwd: folderWithMap(),
    })
    expect(code).toBe(0)
    const { maps } = JSON.parse(stdout) as {
      maps: { complete: boolean; descriptors: { start: unknown; pages: unknown }[] }[]
    }
    const lines = readFileSync(DEMO_MAP, 'utf8').match(/efi: mem\d+:/g)!
    expect(maps[0]!.complete).toBe(true)
    expect(maps[0]!.descriptors).toHaveLength(lines.length)
    expect(maps[0]!.descriptors[0]).toMatchObject({ start: 0, pages: 0xa0 })
  })

  test('map refuses a text that holds none', async () => {
    const cwd = emptyFolder()
    writeFileSync(join(cwd, 'letter.txt'), 'Dear firmware,\nplease answer.\n')
    const { code, stdout, stderr } = await trapdoor(['inspect', 'map', 'letter.txt'], { cwd })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain('letter.txt')
  })

  test('tables prints the merged ranges of every root', async () => {
    const { code, stdout } = await trapdoor(
      ['inspect', 'tables', 'machine/none/legacy-virtual/boot', '-m', 'machine.txt'],
      { cwd: folderWithMap() },
    )
    expect(code).toBe(0)
    expect(stdout).toMatch(/^first kernel, .* \(\d+ pages? of tables.*firmware ran under it\)$/m)
    expect(stdout).toMatch(/^ {2}0xffff[0-9a-f]{12}-0xffff[0-9a-f]{12} .* RW /m)
  })

  test('address walks one address in every root', async () => {
    const args = ['inspect', 'address', 'machine/none/legacy-virtual/boot', '0x1000']
    const { code, stdout } = await trapdoor([...args, '-m', 'machine.txt'], {
      cwd: folderWithMap(),
    })
    expect(code).toBe(0)
    expect(stdout).toMatch(/PML4E +table 0x[0-9a-f]+\[0\]/)
    expect(stdout).toContain('not mapped: not-present')
  })

  test('address refuses what is no address', async () => {
    const args = ['inspect', 'address', 'machine/none/legacy-virtual/boot', '0x8000000000000000']
    const { code, stderr } = await trapdoor([...args, '-m', 'machine.txt'], {
      cwd: folderWithMap(),
    })
    expect(code).toBe(2)
    expect(stderr).toContain('a canonical linear address in hex')
  })
})
