// Cases on several threads: the same results, the same errors.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const ROOT = join(import.meta.dirname, '../..')
const BIN = join(ROOT, 'packages/cli/src/bin.ts')
const MAPS = ['ovmf-q35-4m', 'ovmf-pc-2m'].map((id) => join(ROOT, `configs/demo/${id}.txt`))

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trapdoor-'))
})
afterAll(async () => {
  await rm(folder, { recursive: true })
})

async function run(...args: string[]): Promise<{ exitCode: number | undefined; stderr: string }> {
  const { exitCode, stderr } = await execa(
    process.execPath,
    ['--conditions=@trapdoor/source', BIN, 'run', ...args],
    { cwd: folder, reject: false, extendEnv: false },
  )
  return { exitCode, stderr }
}

describe('threads', () => {
  test('give the results of one, byte by byte, and say how far they are map by map', async () => {
    const cells = ['-m', ...MAPS, '-s', 'legacy-virtual', 'linux-6.1', '--scenario', 'boot']
    const outputs = ['1', '3'].map((jobs) => join(folder, `of-${jobs}.json`))
    const one = await run(...cells, '-f', '*', '--jobs', '1', '-o', outputs[0]!)
    const three = await run(...cells, '-f', '*', '--jobs', '3', '-o', outputs[1]!)
    expect(one.exitCode).toBe(1)
    expect(three).toEqual(one)
    expect(one.stderr).toMatch(/^ovmf-q35-4m: \d+ cases run\novmf-pc-2m: \d+ cases run$/)
    const [first, second] = await Promise.all(outputs.map((file) => readFile(file, 'utf8')))
    expect(second).toBe(first)
  })

  test('do not hide what a plugin throws', async () => {
    await writeFile(
      join(folder, 'trapdoor.config.mjs'),
      `export default {
        plugins: [{
          name: 'trapdoor-plugin-broken', apiVersion: 1,
          scenarios: [{ name: 'broken', title: 'throws', steps: [{ name: 'throw', run: () => { null.x } }] }],
        }],
        scenarios: ['broken'],
        memoryMaps: [${JSON.stringify(MAPS[0])}],
      }`,
    )
    const { exitCode, stderr } = await run('-j', '2', '--no-output')
    expect(exitCode).toBe(2)
    expect(stderr).toContain('HARNESS_PLUGIN_THREW')
    expect(stderr).toContain('step "throw" of case ovmf-q35-4m/none/')
  })

  test('are a whole number from 1', async () => {
    const { exitCode, stderr } = await run('-m', MAPS[0]!, '-j', '0')
    expect(exitCode).toBe(2)
    expect(stderr).toContain('expected a number of threads from 1 to 999, found "0"')
  })
})
