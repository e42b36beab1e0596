import { cpSync, mkdtempSync, realpathSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, onTestFinished, test } from 'vitest'
import { IntakeError, readObservedBoot } from '../src/index.ts'
import { BOOTED, bootFolder, readBootFile } from './shared-data.ts'

const LOG = `[    0.000000] Linux version 6.1.0-test (somebody) #1 SMP
[    0.000000] Command line: console=ttyS0 efi=debug
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable
[    0.000000] BIOS-e820: [mem 0x00000000000a0000-0x00000000000fffff] ACPI NVS
[    0.000000] e820: update [mem 0x00099470-0x0009947f] usable ==> usable
[    0.000000] e820: update [mem 0x00099400-0x0009946f] usable ==> usable
[    0.000000] efi: SMBIOS=0x1000 ACPI 2.0=0x2000 MEMATTR=0x7d018
[    0.000000] efi: memattr: Unexpected EFI Memory Attributes table version -858993460
[    0.000000] Unknown kernel command line parameters "nokaslr efi_fake_mem=1M@1M:1", will be passed to user space.
[    0.000000] RAMDISK: [mem 0x01000000-0x01ffffff]
[    1.000000] Registered efivars operations
[    1.500000] Run /init as init process
[    2.000000] [Firmware Bug]: Page fault caused by firmware at PA: 0x10000000
[    3.000000] efi: [Firmware Bug]: IRQ flags corrupted (0x00000202=>0x00000086) by EFI set_variable
[    4.000000] divide error: 0000 [#1] PREEMPT SMP NOPTI
[    5.000000] reboot: Power down
`

/** A folder of an observed boot, with other files in place of some. */
function folderWith(files: Readonly<Record<string, string | Uint8Array>> = {}): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'trapdoor-boot-')))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const all = {
    'command.txt':
      'qemu-system-x86_64 -M q35 -m 1G -cpu max,la57=on -smp 2 -kernel vmlinuz -append efi=debug\n',
    'boot1.dmesg.gz': gzipSync(LOG),
    'boot1.iomem.txt':
      '00100000-7fffffff : System RAM\n  01600000-016fffff : Kernel code\n  01800000-018fffff : Kernel bss\n',
    'boot1.runtime-map.txt':
      '# idx type phys_addr virt_addr num_pages attribute\n0 0x6 0x7e000 0xfffffffeffe7e000 0x2 0x800000000000000f\n',
    'boot1.efi-pgd.json': JSON.stringify({
      ranges: [
        ['0x0', '0x0', '0x1000', '4K', 'w-'],
        ['0x200000', '0x400000', '0x400000', '2M', '-xc'],
      ],
      nleaves: 3,
    }),
    ...files,
  }
  for (const [name, content] of Object.entries(all)) writeFileSync(join(folder, name), content)
  return folder
}

function refusal(folder: string): IntakeError {
  try {
    readObservedBoot(folder)
  } catch (error) {
    if (error instanceof IntakeError) return error
    throw error
  }
  throw new Error('it was read')
}

describe('an observed boot', () => {
  test('tells of the machine, of each kernel’s start and end, and of what it had mapped', () => {
    const boot = readObservedBoot(folderWith())
    expect(boot).toMatchObject({
      machine: 'qemu-system-x86_64 -M q35 -m 1G -cpu max,la57=on -smp 2',
      cpuModel: 'max,la57=on',
      cpus: 2,
      firmware: undefined,
    })
    expect(boot.kernels).toHaveLength(1)
    expect(boot.kernels[0]).toMatchObject({
      stage: 'boot1',
      version: '6.1.0-test',
      commandLine: 'console=ttyS0 efi=debug',
      loader: undefined,
      iomem: {
        image: { start: 0x160_0000, end: 0x190_0000 },
        e820: [{ start: 0x10_0000, end: 0x8000_0000, type: 'System RAM' }],
        crashKernel: [],
      },
      e820: [
        { start: 0, end: 0xa_0000, type: 'System RAM' },
        { start: 0xa_0000, end: 0x10_0000, type: 'ACPI Non-volatile Storage' },
      ],
      setupData: [
        { start: 0x9_9470, end: 0x9_9480 },
        { start: 0x9_9400, end: 0x9_9470 },
      ],
      refusesAttributesTable: true,
      unknownParameters: ['nokaslr', 'efi_fake_mem=1M@1M:1'],
      initrd: { start: 0x100_0000, end: 0x200_0000 },
      tables: new Map([
        ['SMBIOS', 0x1000],
        ['ACPI 2.0', 0x2000],
        ['MEMATTR', 0x7_d018],
      ]),
      ending: {
        panic: undefined,
        runtimeServices: true,
        svamStatus: undefined,
        survivedFaults: [0x1000_0000],
        flagsCorruptedBy: ['set_variable'],
        oops: 'divide error: 0000 [#1]',
        exception: 0,
        stopped: true,
      },
      bootEnding: {
        survivedFaults: [],
        runtimeServices: true,
        exception: undefined,
        stopped: false,
      },
      runtimeMap: [
        {
          type: 6,
          physicalStart: 0x7_e000,
          virtualStart: 0xffff_fffe_ffe7_e000n,
          numberOfPages: 2,
          attribute: 0x8000_0000_0000_000fn,
        },
      ],
    })
    const common = { writable: false, executable: true, user: false, cacheDisable: true }
    expect(boot.kernels[0]!.leaves!.slice(1)).toEqual([
      { address: 0x20_0000n, physical: 0x40_0000, pageSize: 0x20_0000, ...common },
      { address: 0x40_0000n, physical: 0x60_0000, pageSize: 0x20_0000, ...common },
    ])
  })

  test('has as many kernels as logs, whatever they are called, in the order in which they ran', () => {
    const folder = folderWith({
      'boot10.dmesg': LOG,
      'boot2.dmesg.txt': LOG.replace('efi=debug', 't.do=collect,kdump_load,crash'),
      'crash.dmesg.gz': gzipSync(LOG),
    })
    const { kernels } = readObservedBoot(folder)
    expect(kernels.map(({ stage }) => stage)).toEqual(['boot1', 'boot2', 'boot10', 'crash'])
    // By what the kernel before was told to do, else by where the hand-over lies.
    expect(kernels.map(({ loader }) => loader?.syscall)).toEqual([
      undefined,
      'kexec_file_load',
      'kexec_load',
      'kexec_file_load',
    ])
    expect(kernels[1]!.loader!.setupEfi).toBe(0x9_9400)
  })

  test('tells which kernels kexec-tools have loaded, and with --noefi', () => {
    const pages = LOG.replace('0x00099470-0x0009947f', '0x00102000-0x0010200f').replace(
      '0x00099400-0x0009946f',
      '0x00100000-0x0010006f',
    )
    const folder = folderWith({
      'boot2.dmesg.gz': gzipSync(pages.replace('efi=debug', 't.do=kexec_noefi,kexec_exec')),
      'boot3.dmesg.gz': gzipSync(LOG.replaceAll(/^.*e820: update.*$/gm, '')),
    })
    const { kernels } = readObservedBoot(folder)
    expect(kernels[1]!.loader).toEqual({
      syscall: 'kexec_load',
      noEfi: false,
      setupEfi: 0x10_0000,
    })
    expect(kernels[2]!.loader).toEqual({
      syscall: 'kexec_load',
      noEfi: true,
      setupEfi: undefined,
    })
  })

  test('prefers /sys/firmware/memmap to the log, and refuses what is no range', () => {
    const table =
      '# idx start end type\n0 0x400 0x9ffff System RAM\n1 0xa0000 0xfffff Soft Reserved\n'
    const { kernels } = readObservedBoot(folderWith({ 'boot1.firmware-memmap.txt': table }))
    expect(kernels[0]!.e820).toEqual([
      { start: 0x400, end: 0xa_0000, type: 'System RAM' },
      { start: 0xa_0000, end: 0x10_0000, type: 'Soft Reserved' },
    ])
    const bad = folderWith({ 'boot1.firmware-memmap.txt': `${table}2 0x1 0x2 Something\n` })
    expect(refusal(bad)).toMatchObject({ code: 'INTAKE_BAD_ENTRY', line: 4 })
  })

  test('is refused by file where something is missing, cut or no number', () => {
    const cutLog = folderWith()
    truncateSync(join(cutLog, 'boot1.dmesg.gz'), 40)
    expect(refusal(cutLog)).toMatchObject({
      code: 'INTAKE_BINARY',
      file: join(cutLog, 'boot1.dmesg.gz'),
    })

    const beforeInit = LOG.slice(0, LOG.indexOf('[    1.500000]'))
    const cutBeforeInit = folderWith({ 'boot1.dmesg.gz': gzipSync(beforeInit) })
    expect(refusal(cutBeforeInit)).toMatchObject({
      code: 'INTAKE_INCOMPLETE',
      file: join(cutBeforeInit, 'boot1.dmesg.gz'),
      line: 11,
      expected: 'a log up to "Run /init as init process", as a process has written boot1.iomem.txt',
    })

    // What was written besides may be lost, too: then nobody knows whether firmware or the text ends here.
    rmSync(join(cutBeforeInit, 'boot1.iomem.txt'))
    rmSync(join(cutBeforeInit, 'boot1.runtime-map.txt'))
    expect(refusal(cutBeforeInit)).toMatchObject({
      code: 'INTAKE_INCOMPLETE',
      line: 11,
      expected: 'a log up to "Run /init as init process", or up to what the kernel died of',
    })

    const noBanner = folderWith({ 'boot1.dmesg.gz': gzipSync('[    0.1] something else\n') })
    expect(refusal(noBanner)).toMatchObject({ code: 'INTAKE_INCOMPLETE', line: 1 })

    for (const [text, line] of [
      ['{"ranges": [\n["0x0", "0x', 2],
      ['{\n"ranges": [\n["0x0"],\n', 3],
      ['', 1],
      ['{"ranges": [\n[0x0]\n]}', 2],
    ] as const) {
      const cutTables = folderWith({ 'boot1.efi-pgd.json': text })
      expect(refusal(cutTables)).toMatchObject({
        code: 'INTAKE_BAD_ENTRY',
        file: join(cutTables, 'boot1.efi-pgd.json'),
        line,
      })
    }

    const missingLeaf = folderWith({ 'boot1.efi-pgd.json': '{"ranges": [], "nleaves": 1}' })
    expect(refusal(missingLeaf).message).toBe('expected 1 leaves, as it says, found 0')

    const oddRange = folderWith({
      'boot1.efi-pgd.json': '{"ranges": [["0x0", "0x0", "0x1800", "4K", "w"]], "nleaves": 1}',
    })
    expect(refusal(oddRange).code).toBe('INTAKE_BAD_ENTRY')

    const noAddress = folderWith({ 'boot1.runtime-map.txt': 'nothing of the kind\n' })
    expect(refusal(noAddress).code).toBe('INTAKE_NO_MAP')
  })

  test('needs at least one kernel, and the command', () => {
    const folder = folderWith()
    rmSync(join(folder, 'boot1.dmesg.gz'))
    expect(refusal(folder)).toMatchObject({ code: 'INTAKE_EMPTY', file: folder })
    rmSync(join(folder, 'command.txt'))
    expect(refusal(folder)).toMatchObject({
      code: 'INTAKE_EMPTY',
      file: join(folder, 'command.txt'),
    })
  })
})

describe.skipIf(BOOTED.length === 0)(
  'recorded boots as a whole (skipped where the shared data is absent)',
  () => {
    test('are all read', () => {
      const kernels = BOOTED.flatMap((name) => readObservedBoot(bootFolder(name)).kernels)
      expect(kernels.length).toBeGreaterThanOrEqual(BOOTED.length)
      for (const { version, ending } of kernels) {
        expect(version).toMatch(/^6\.(?:1|12)\./)
        expect(ending.panic).toBeUndefined()
      }
    })

    test('have the map of the firmware in the first log, where there is no file of it', () => {
      const log = readBootFile('pc-2M-512M', 'boot1.dmesg.gz')!
      const { firmware } = readObservedBoot(folderWith({ 'boot1.dmesg.gz': log }))
      expect(firmware).toEqual(readObservedBoot(bootFolder('pc-2M-512M')).firmware)
    })

    test('have the leaves that were counted when they were made', () => {
      const counts = ['pc-2M-512M', 'nd-pc-2M-512M'].map(
        (name) => readObservedBoot(bootFolder(name)).kernels[0]!.leaves!.length,
      )
      expect(counts).toEqual([8621, 1483])
    })

    test('give their second kernels after the first', () => {
      const folder = realpathSync(mkdtempSync(join(tmpdir(), 'trapdoor-boot-')))
      onTestFinished(() => rmSync(folder, { recursive: true }))
      cpSync(bootFolder('nd-kdump-file'), folder, { recursive: true })
      expect(readObservedBoot(folder).kernels.map(({ stage }) => stage)).toEqual(['boot1', 'kdump'])
    })
  },
)
