import { cpSync, existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
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
    test('agree with the model in what kernels got, every region, every leaf and every ending', async () => {
      const { code, stdout } = await trapdoor(['verify', BOOTS], { cwd: emptyFolder() })
      expect(code).toBe(0)
      const sums =
        /(\d+) leaves and (\d+) entries of e820 maps compared: (\d+) differences, (\d+) of them explained/.exec(
          stdout,
        )!
      expect(sums[3]).toBe(sums[4])
      expect(Number(sums[1])).toBeGreaterThan(100_000)
      expect(Number(sums[2])).toBeGreaterThan(1000)
    })

    test('count what the model made, and not the map that it was given', async () => {
      const { stdout } = await trapdoor(['verify', join(BOOTS, 'kexec-file'), '--json'], {
        cwd: emptyFolder(),
      })
      const { kernels } = (JSON.parse(stdout) as VerifiedBoots)[0]!
      const regions = (stage: string): number =>
        readFileSync(join(BOOTS, `kexec-file/${stage}.runtime-map.txt`), 'utf8')
          .split('\n')
          .filter((line) => /^\d/.test(line)).length
      // The second kernel has also printed the map that the first one handed over, which is as long.
      expect(kernels.map(({ descriptors }) => descriptors)).toEqual([
        regions('boot1'),
        2 * regions('boot2'),
      ])
    })

    test('differ where the second kernel was given other memory', async () => {
      const folder = copyOf('nd-kexec-load')
      edit(join(folder, 'boot2.firmware-memmap.txt'), (text) =>
        text.replace('0 0x400 0x9ffff', '0 0x0 0x9ffff'),
      )
      const { code, stdout } = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(code).toBe(1)
      expect(stdout).toContain('e820 map')
      expect(stdout).toContain('machine  System RAM 0x0000000000000000 to 0x00000000000a0000')
      expect(stdout).toContain('model    System RAM 0x0000000000000400 to 0x00000000000a0000')
    })

    test('differ where the second kernel got the runtime map in another order, or no hand-over, or a table that is whole', async () => {
      const folder = copyOf('kexec-file')
      const log = join(folder, 'boot2.dmesg.gz')
      const lines = gunzipSync(readFileSync(log)).toString().split('\n')
      const first = lines.findIndex((line) => line.includes('efi: mem00:'))
      const swapped = lines.with(first, lines[first + 1]!).with(first + 1, lines[first]!)
      const changed = swapped.filter((line) => !/usable ==> usable|memattr: Unexpected/.test(line))
      writeFileSync(
        log,
        changed
          .join('\n')
          .replace('efi: mem01:', 'efi: memXX:')
          .replace('efi: mem00:', 'efi: mem01:')
          .replace('efi: memXX:', 'efi: mem00:'),
      )
      const { code, stdout } = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(code).toBe(1)
      expect(stdout).toContain('machine  0x000000003fef4000 as descriptor 0')
      expect(stdout).toContain('model    0x00000000ffc00000 as descriptor 0')
      expect(stdout).toContain('machine  no SETUP_EFI')
      expect(stdout).toContain('machine  as it was\n       model    overwritten')
    })

    test('differ where memory was reserved for a crash kernel elsewhere', async () => {
      const folder = copyOf('nd-kdump-file')
      edit(join(folder, 'boot1.iomem.txt'), (text) =>
        text.replace('28000000-37ffffff : Crash kernel', '27000000-36ffffff : Crash kernel'),
      )
      const { code, stdout } = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(code).toBe(1)
      expect(stdout).toContain('machine  0x0000000027000000 to 0x0000000037000000')
      expect(stdout).toContain('model    0x0000000028000000 to 0x0000000038000000')
    })

    test('differ where firmware faulted while the kernel booted, and not where user space called it later', async () => {
      const folder = copyOf('nd-q35-4M-1G')
      const log = join(folder, 'boot1.dmesg.gz')
      const text = gunzipSync(readFileSync(log)).toString()
      const fault = '[    9.0] [Firmware Bug]: Page fault caused by firmware at PA: 0x10000000\n'
      writeFileSync(
        log,
        text.replace(/^.*Run \/init as init process$/m, (run) => fault + run),
      )
      const booting = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(booting.code).toBe(1)
      expect(booting.stdout).toContain(
        'runtime services on, firmware faulted at 0x0000000010000000',
      )
      writeFileSync(log, text + fault)
      const later = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(later.code).toBe(0)
      expect(later.stdout).toContain(
        'not compared, as user space made the calls: runtime services on, firmware faulted at 0x0000000010000000',
      )
    })

    test('need neither /proc/iomem nor page tables', async () => {
      const folder = copyOf('kexec-file')
      for (const file of ['iomem.txt', 'efi-pgd.json', 'firmware-memmap.txt']) {
        rmSync(join(folder, `boot2.${file}`))
      }
      const { code, stdout } = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(code).toBe(0)
      expect(stdout).toContain('where kexec had put the image is not known')
      // Its e820 map is in its log.
      expect(stdout).toContain(
        'not compared, as it is missing: boot2.iomem.txt, boot2.efi-pgd.json\n',
      )
      expect(stdout).not.toContain('boot1.iomem.txt')
    })

    test.each([
      // It lies above regions that are not marked, and these above the image.
      ['in another place', '0x3 0x3fee0000'],
      // It is the next below the image, 900 MiB away.
      ['further than an image reaches', '0x4 0x900000'],
    ])('differ where regions are marked that lie %s', async (_, region) => {
      const folder = copyOf('kexec-file')
      rmSync(join(folder, 'boot2.iomem.txt'))
      edit(join(folder, 'boot2.runtime-map.txt'), (text) =>
        text.replace(new RegExp(`(${region} .*) 0xf$`, 'm'), '$1 0x800000000000000f'),
      )
      const { code, stdout } = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(code).toBe(1)
      expect(stdout).not.toContain('where kexec had put the image is not known')
    })

    test('of a kernel without EFI need no map of the firmware', async () => {
      const { code, stdout } = await trapdoor(['verify', join(BOOTS, 'q35-4M-1G-noefi')], {
        cwd: emptyFolder(),
      })
      expect(code).toBe(0)
      expect(stdout).toContain('no runtime services')
    })

    test('that cannot be read are named, and the others compared', async () => {
      const parent = emptyFolder()
      cpSync(join(BOOTS, 'nd-pc-2M-512M'), join(parent, 'whole'), { recursive: true })
      cpSync(join(BOOTS, 'nd-pc-2M-512M'), join(parent, 'cut'), { recursive: true })
      truncateSync(join(parent, 'cut/boot1.dmesg.gz'), 100)
      cpSync(join(BOOTS, 'nd-q35-4M-1G'), join(parent, 'mapless'), { recursive: true })
      rmSync(join(parent, 'mapless/firmware-map.txt'))
      const { code, stdout } = await trapdoor(['verify', parent], { cwd: parent })
      expect(code).toBe(2)
      expect(stdout).toContain('✓  whole')
      expect(stdout).toMatch(/!\s+cut\s+not compared: INTAKE_BINARY .*boot1\.dmesg\.gz/)
      expect(stdout).toMatch(/!\s+mapless\s+not compared: HARNESS_NO_MEMORY_MAP/)
      expect(stdout).toContain('2 boots not compared')
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

    test('differ where the page of a table that lay elsewhere is another region than the model’s', async () => {
      const folder = copyOf('nd-q35-4M-1G-k612')
      const asItWas = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(asItWas.code).toBe(0)
      expect(asItWas.stdout).toContain('the page of the memory attributes table')
      edit(join(folder, 'boot1.runtime-map.txt'), (text) =>
        text.replace(/(0x3d5dc000 .*) 0x800000000000000f/, '$1 0x800000000000100f'),
      )
      const changed = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(changed.code).toBe(1)
      expect(changed.stdout).toContain('RUNTIME|UC|WC|WT|WB|WP')
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
      expect(stdout).toContain('machine  the kernel panics before efi_init()')
      expect(stdout).toContain('model    runtime services on')
    })

    test('of a kernel that no strategy stands for are refused', async () => {
      const folder = copyOf('nd-q35-4M-1G')
      writeFileSync(
        join(folder, 'boot1.dmesg.gz'),
        '[    0.000000] Linux version 2.4.20 (x)\n[    0.1] Command line: quiet\n[    0.9] Run /init as init process\n',
      )
      const { code, stderr } = await trapdoor(['verify', folder], { cwd: emptyFolder() })
      expect(code).toBe(2)
      expect(stderr).toContain('HARNESS_UNKNOWN_NAME')
      expect(stderr).toContain('2.4.20')
    })
  },
)

interface VerifiedBoots extends Array<{
  kernels: {
    descriptors: number
    differences: { observed: string; model: string; explanation?: unknown }[]
  }[]
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
