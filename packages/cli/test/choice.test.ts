import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { emptyFolder } from './folder.ts'
import { type Ran, trapdoor } from './terminal.ts'

const MACHINE = join(import.meta.dirname, '../../../configs/demo/ovmf-q35-4m.txt')

/** Runs a command where `machine.txt` is the log of a real boot of OVMF. */
async function onMachine(...args: string[]): Promise<Ran> {
  const cwd = emptyFolder()
  copyFileSync(MACHINE, join(cwd, 'machine.txt'))
  return trapdoor([...args, '--memory-map', 'machine.txt'], { cwd })
}

interface Ranked {
  readonly strategy: string
  readonly passes: boolean
  readonly failed: readonly { readonly id: string; readonly rules: readonly string[] }[]
  readonly cost: { readonly writableExecutableBytes: number } | null
  readonly remedy: string | null
}

describe('recommend', () => {
  test('puts those that pass first, the less exposed before the more exposed', async () => {
    const { code, stdout } = await onMachine(
      'recommend',
      '-f',
      'none',
      'Q03',
      '--scenario',
      'boot',
      'kexec',
      '--json',
    )
    expect(code).toBe(0)
    const ranked = JSON.parse(stdout) as Ranked[]
    const failures = ranked.map(({ failed }) => failed.length)
    expect(failures).toEqual(failures.toSorted((a, b) => a - b))
    const passing = ranked.filter(({ passes }) => passes)
    expect(passing.length).toBeGreaterThanOrEqual(3)
    const exposed = passing.map(({ cost }) => cost!.writableExecutableBytes)
    expect(exposed).toEqual(exposed.toSorted((a, b) => a - b))
    const legacy = ranked.find(({ strategy }) => strategy === 'legacy-virtual')!
    expect(legacy.failed.map(({ id }) => id)).toContain('machine/Q03/legacy-virtual/boot')
    expect(legacy.failed[0]!.rules).toContain('H8')
  })

  test('finds the one switch that makes the patch of 2010 survive writes to page 0', async () => {
    const { code, stdout, stderr } = await onMachine(
      'recommend',
      '-f',
      'Q26',
      '-s',
      'private-efi-pgd',
      '--scenario',
      'boot',
      'services',
    )
    expect(code).toBe(1)
    expect(stdout).toContain('passes with the options of private-efi-pgd:page0=mapped')
    expect(stdout).toContain('no strategy passes every cell with its default options')
    expect(stdout).toContain('trapdoor explain machine/Q26/private-efi-pgd/services')
    expect(stderr).toMatch(
      /^machine: 2 cases run\nother options of private-efi-pgd: \d{1,2} cases run\n$/,
    )
  })

  test('finds two switches where it takes two', async () => {
    const { stdout } = await onMachine(
      'recommend',
      '-f',
      'Q26',
      '-s',
      'private-efi-pgd:saveArea=static',
      '--scenario',
      'boot',
      'services',
      '--json',
    )
    const [ranked] = JSON.parse(stdout) as Ranked[]
    expect(ranked!.remedy).toBe('private-efi-pgd:saveArea=perCpu,page0=mapped')
  })

  test('says where no switch helps', async () => {
    const { code, stdout } = await onMachine(
      'recommend',
      '-f',
      'Q06',
      '-s',
      'private-efi-pgd',
      '--scenario',
      'boot',
    )
    expect(code).toBe(1)
    expect(stdout).not.toContain('passes with')
  })
})

describe('compare', () => {
  test('takes more than two strategies', async () => {
    const { code, stdout } = await onMachine(
      'compare',
      'linux-3.14',
      'linux-4.3',
      'linux-6.1',
      '-f',
      'none,Q09',
      '--scenario',
      'boot',
    )
    expect(code).toBe(0)
    expect(stdout).toContain('linux-3.14 against linux-4.3 against linux-6.1: 2 cells each')
    expect(stdout).toContain(
      '  linux-3.14 ≠ corrupt against linux-4.3 ✓ ok against linux-6.1 ✓ ok in 1 cell',
    )
    expect(stdout).toMatch(/boot services exposed +\d+ KiB +\d+ KiB +4 KiB +differs/)
    expect(stdout).toMatch(/0x0000000000000000-\S+ +4 KiB +RW NX G +RW NX G +RW NX\n/)
  })

  test('prints the same as JSON', async () => {
    const { stdout } = await onMachine(
      'compare',
      'xen',
      'openbsd',
      'netbsd',
      '-f',
      'none',
      '--scenario',
      'boot',
      '--json',
    )
    const document = JSON.parse(stdout) as {
      strategies: string[]
      cells: { outcome: string; cost: { bootServicesBytes: number } }[]
      ranges: { start: string; mappings: ({ rights: string } | null)[] }[]
    }
    expect(document.strategies).toEqual(['xen', 'openbsd', 'netbsd'])
    expect(document.cells.map(({ outcome }) => outcome)).toEqual(['ok', 'ok', 'ok'])
    expect(document.cells.map(({ cost }) => cost.bootServicesBytes > 0)).toEqual([
      true,
      false,
      false,
    ])
    expect(document.ranges[0]).toMatchObject({
      start: '0x0000000000000000',
      mappings: [{ rights: 'RW X' }, null, null],
    })
  })

  test('refuses one strategy alone', async () => {
    const { code, stderr } = await onMachine('compare', 'xen')
    expect(code).toBe(2)
    expect(stderr).toContain('expected two strategies or more')
  })
})
