import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const CONSUMER = fileURLToPath(new URL('consumer', import.meta.url))
const MAP = join(ROOT, 'configs/demo/ovmf-q35-4m.txt')

/** As the README has it. */
const PNPM = 'pnpm@12.21.0'

let folder = ''

/** Lines of a source that are code: neither empty nor only a comment. */
async function linesOfCode(file: string): Promise<number> {
  const text = await readFile(join(CONSUMER, file), 'utf8')
  return text.split('\n').filter((line) => line.trim() !== '').length
}

/** Packs every package of the workspace and installs them all in an empty folder, as a user would who has only npm. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trapdoor-consumer-'))
  const tarballs = join(folder, 'tarballs')
  await mkdir(tarballs)
  await execa('tsc', ['-b', 'packages/cli', 'packages/plugin-kit'], {
    cwd: ROOT,
    preferLocal: true,
  })
  const pack = ['-r', '--filter', '@trapdoor/*', 'pack', '--pack-destination', tarballs]
  await execa('npx', ['-y', PNPM, ...pack], { cwd: ROOT })
  const files = (await readdir(tarballs)).map((file) => join(tarballs, file))
  const consumer = join(folder, 'consumer')
  await mkdir(consumer)
  await writeFile(
    join(consumer, 'package.json'),
    JSON.stringify({ name: 'consumer', private: true, type: 'module' }),
  )
  await execa('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', ...files], {
    cwd: consumer,
  })
  await cp(CONSUMER, consumer, { recursive: true })
  await cp(MAP, join(consumer, 'machine.log'))
}, 240_000)

afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

/** Runs the installed command in the consumer's folder. */
async function trapdoor(
  ...args: string[]
): Promise<{ exitCode: number | undefined; stdout: string; stderr: string }> {
  const cwd = join(folder, 'consumer')
  // The Node.js that runs the tests: the machine's own may be older than the packages allow.
  const command = [join(cwd, 'node_modules/.bin/trapdoor'), ...args]
  const { exitCode, stdout, stderr } = await execa(process.execPath, command, {
    cwd,
    reject: false,
    env: { NO_COLOR: '1' },
  })
  return { exitCode, stdout, stderr }
}

describe('the packed packages in an empty folder', () => {
  test('run a quirk of at most 25 lines and a strategy of at most 60 lines in the user’s own configuration', async () => {
    expect(await linesOfCode('acme-quirk.ts')).toBeLessThanOrEqual(25)
    expect(await linesOfCode('acme-strategy.ts')).toBeLessThanOrEqual(60)
    const run = await trapdoor('run')
    expect(run.stderr).not.toMatch(/error/i)
    const results = JSON.parse(await readFile(join(folder, 'consumer/results.json'), 'utf8')) as {
      cases: { id: string; outcome: string; reason: string }[]
    }
    const outcomes = Object.fromEntries(results.cases.map(({ id, outcome }) => [id, outcome]))
    expect(outcomes).toEqual({
      'machine/none/acme-window/boot': 'ok',
      'machine/none/acme-window/kexec': 'fault',
      'machine/none/private-efi-pgd/boot': 'ok',
      'machine/none/private-efi-pgd/kexec': 'ok',
      'machine/ACME1/acme-window/boot': 'degraded',
      'machine/ACME1/acme-window/kexec': 'fault',
      'machine/ACME1/private-efi-pgd/boot': 'ok',
      'machine/ACME1/private-efi-pgd/kexec': 'ok',
    })
    expect(run.exitCode).toBe(1)
  })

  test('explain a cell of the user’s own plugins', async () => {
    const { stdout, exitCode } = await trapdoor('explain', 'machine/none/acme-window/kexec')
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/second kernel dies in efi_init\(\)/)
  })

  test('print a log’s map as JSON and refuse one without a map with exit code 2', async () => {
    const good = await trapdoor('inspect', 'map', 'machine.log', '--reporter', 'json')
    expect(JSON.parse(good.stdout)).toMatchObject({
      maps: [
        { format: 'linux_names_incl', kind: 'firmware', complete: true },
        { format: 'linux_memattr', kind: 'memory-attributes' },
      ],
    })
    const bad = await trapdoor('inspect', 'map', 'package.json', '--reporter', 'json')
    expect(bad.exitCode).toBe(2)
    expect(bad.stderr).toMatch(/package\.json/)
  })
})
