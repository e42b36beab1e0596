import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { emptyFolder } from './folder.ts'
import { trapdoor } from './terminal.ts'

const BOOTS = join(import.meta.dirname, '../../../../shared/data/observed/boots')

/** A copy of a boot whose files a test may change. */
function copyOf(name: string): string {
  const folder = join(emptyFolder(), name)
  cpSync(join(BOOTS, name), folder, { recursive: true })
  return folder
}

function edit(file: string, change: (text: string) => string): void {
  writeFileSync(file, change(readFileSync(file, 'utf8')))
}

describe.skipIf(!existsSync(BOOTS))(
  'observed boots (skipped where the shared data is absent)',
  () => {
    test('agree with the model in every region, every leaf and every ending', async () => {
      const { code, stdout } = await trapdoor(['verify', BOOTS], { cwd: emptyFolder() })
      expect(code).toBe(0)
      const sums =
        /(\d+) regions and (\d+) leaves compared: (\d+) differences, (\d+) of them explained/.exec(
          stdout,
        )!
      expect(sums[3]).toBe(sums[4])
      expect(Number(sums[2])).toBeGreaterThan(100_000)
    })

    test('differ where a kernel had mapped a region one page off', async () => {
      const folder = copyOf('nd-q35-4M-1G')
      edit(join(folder, 'boot1.runtime-map.txt'), (text) =>
        text.replace('0xfffffffeffaf4000', '0xfffffffeffaf5000'),
      )
      const { code, stdout } = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(code).toBe(1)
      expect(stdout).toContain(
        'machine  RuntimeServicesData 0x000000003fef4000 at 0xfffffffeffaf5000',
      )
      expect(stdout).toContain(
        'model    RuntimeServicesData 0x000000003fef4000 at 0xfffffffeffaf4000',
      )
    })

    test('differ where a leaf has another right, and where one is missing', async () => {
      const folder = copyOf('nd-q35-4M-1G')
      edit(join(folder, 'boot1.efi-pgd.json'), (text) =>
        text.replace(/"w-"(?=\]\s*\]?\s*[,}])/, '"wx"'),
      )
      const { code, stdout } = await trapdoor(['verify', folder, '--json'], { cwd: emptyFolder() })
      expect(code).toBe(1)
      const open = (JSON.parse(stdout) as VerifiedBoots)[0]!.kernels[0]!.differences.filter(
        ({ explanation }) => explanation === undefined,
      )
      expect(open).toHaveLength(1)
      expect(open[0]!.observed).toContain('rwx')
      expect(open[0]!.model).toContain('rw-')
    })

    test('differ where the kernel panicked and the model does not', async () => {
      const folder = copyOf('nd-q35-4M-1G')
      writeFileSync(
        join(folder, 'boot1.dmesg.gz'),
        '[    0.000000] Linux version 6.1.0-1 (x)\n[    0.1] Command line: quiet\n[    0.6] Kernel panic - not syncing: Attempted to kill the idle task!\n',
      )
      const { code, stdout } = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(code).toBe(1)
      expect(stdout).toContain('machine  the kernel panics')
      expect(stdout).toContain('model    runtime services on')
    })

    test('of a kernel that no strategy stands for are refused', async () => {
      const folder = copyOf('nd-q35-4M-1G')
      writeFileSync(
        join(folder, 'boot1.dmesg.gz'),
        '[    0.000000] Linux version 2.4.20 (x)\n[    0.1] Command line: quiet\n',
      )
      const { code, stderr } = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(code).toBe(2)
      expect(stderr).toContain('HARNESS_UNKNOWN_NAME')
      expect(stderr).toContain('2.4.20')
    })
  },
)

interface VerifiedBoots extends Array<{
  kernels: { differences: { observed: string; model: string; explanation?: unknown }[] }[]
}> {}

describe('a folder that is no observed boot', () => {
  test('is refused, and so is one that is not there', async () => {
    const empty = emptyFolder()
    const { code, stderr } = await trapdoor(['verify', empty], { cwd: empty })
    expect(code).toBe(2)
    expect(stderr).toContain('a folder without command.txt')
    const missing = await trapdoor(['verify', 'nowhere'], { cwd: empty })
    expect(missing.code).toBe(2)
    expect(missing.stderr).toContain('no such folder')
  })
})
