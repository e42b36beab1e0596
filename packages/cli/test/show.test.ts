import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { serializeResults } from '@trapdoor/harness'
import { expect, test } from 'vitest'
import { emptyFolder } from './folder.ts'
import { sampleResults } from './sample-results.ts'
import { type Ran, type Surroundings, trapdoor } from './terminal.ts'

function show(args: readonly string[], changes: Partial<Surroundings> = {}): Promise<Ran> {
  const cwd = emptyFolder()
  writeFileSync(join(cwd, 'results.json'), serializeResults(sampleResults()))
  return trapdoor(['show', ...args], { cwd, ...changes })
}

test('a matrix shows maps of the same outcomes once, and groups what failed by its reason', async () => {
  const { code, stdout } = await show([])
  expect(code).toBe(0)
  expect(stdout).toMatchInlineSnapshot(`
    "b boot  k kexec    ✓ ok  ≠ corrupt  ✗ fault

    pc  20 descriptors, 5 of them runtime, 512 MiB of memory
    q35  20 descriptors, 5 of them runtime, 512 MiB of memory
    the same outcome in every cell:
                               legacy-virtual   private-efi-pgd
                               b k              b k
      none                     ✓ ✗ fault        ✓ ✓ ok
      Q01 boot-services-later  ✓ ✗ fault        ≠ ≠ corrupt

    server  20 descriptors, 5 of them runtime, 512 MiB of memory
                               legacy-virtual   private-efi-pgd
                               b k              b k
      none                     ✓ ✗ fault        ✓ ✓ ok
      Q01 boot-services-later  ✓ ✗ fault        ✓ ✓ ok

    10 cells not ok, for 2 reasons
      ✗ fault    6  the second kernel reads the system table at 0xffff88001f9ee018 [H9]
                    legacy-virtual · kexec · both firmware variants · all 3 memory maps
                    trapdoor explain pc/none/legacy-virtual/kexec
      ≠ corrupt  4  VariableRuntimeDxe wrote into a page that the kernel had given away
                    private-efi-pgd · both scenarios · Q01 · pc, q35
                    trapdoor explain pc/Q01/private-efi-pgd/boot

    24 cases: 14 ok, 4 corrupt, 6 fault
    "
  `)
})

test('a narrow terminal gets the strategies in blocks, and no line of the tables is too long', async () => {
  const cwd = emptyFolder()
  const strategies = ['legacy-virtual', 'private-efi-pgd', 'global-identity-map', 'none-at-all']
  writeFileSync(join(cwd, 'results.json'), serializeResults(sampleResults(strategies)))
  const { stdout } = await trapdoor(['show'], { cwd, columns: 60 })
  const table = stdout.slice(0, stdout.indexOf('cells not ok')).split('\n').slice(0, -1)
  expect(table.filter((line) => line.length > 60)).toEqual([])
  expect(table.filter((line) => line.startsWith('  none'))).toHaveLength(4)
})

test('colours come with a terminal, and change nothing but the colours', async () => {
  const plain = await show([])
  const coloured = await show([], { isTTY: true })
  expect(coloured.stdout).toContain('\u001B[')
  expect(stripVTControlCharacters(coloured.stdout)).toBe(plain.stdout)
})

test.each([
  [{ NO_COLOR: '1' }, true, false],
  [{ FORCE_COLOR: '1' }, false, true],
  [{ FORCE_COLOR: '0' }, true, false],
])('colours obey %j', async (env, isTTY, expected) => {
  const { stdout } = await show([], { env, isTTY })
  expect(stdout.includes('\u001B[')).toBe(expected)
})

test('JSON comes out as it was written', async () => {
  const { stdout } = await show(['--reporter', 'json'])
  expect(stdout).toBe(serializeResults(sampleResults()))
})

test('JUnit has a suite for each map and strategy, and a failure for each cell that is not ok', async () => {
  const { stdout } = await show(['--reporter', 'junit'])
  const { cases, totals } = sampleResults()
  expect(stdout.match(/<testsuite /g)).toHaveLength(6)
  expect(stdout.match(/<testcase /g)).toHaveLength(cases.length)
  expect(stdout.match(/<failure /g)).toHaveLength(cases.length - totals.ok)
  expect(stdout).toContain(
    '<failure message="expected ok, was corrupt: VariableRuntimeDxe wrote into a page that the kernel had given away" type="corrupt"/>',
  )
})

test('results that are not there are an error of usage', async () => {
  const { code, stderr } = await show(['other.json'])
  expect(code).toBe(2)
  expect(stderr).toMatch(/^error HARNESS_UNREADABLE_FILE: .*\n {2}at other\.json\n/)
})
