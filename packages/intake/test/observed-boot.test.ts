import { cpSync, mkdtempSync, realpathSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, onTestFinished, test } from 'vitest'
import { IntakeError, readObservedBoot } from '../src/index.ts'
import { BOOTED, bootFolder } from './shared-data.ts'

const LOG = `[    0.000000] Linux version 6.1.0-test (somebody) #1 SMP
[    0.000000] Command line: console=ttyS0 efi=debug
[    0.000000] efi: SMBIOS=0x1000 MEMATTR=0x7d018
[    0.000000] RAMDISK: [mem 0x01000000-0x01ffffff]
[    1.000000] Registered efivars operations
[    2.000000] [Firmware Bug]: Page fault caused by firmware at PA: 0x10000000
[    3.000000] efi: [Firmware Bug]: IRQ flags corrupted (0x00000202=>0x00000086) by EFI set_variable
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
      image: { start: 0x160_0000, end: 0x190_0000 },
      initrd: { start: 0x100_0000, end: 0x200_0000 },
      memoryAttributesTable: 0x7_d018,
      ending: {
        panic: undefined,
        runtimeServices: true,
        svamStatus: undefined,
        survivedFaults: [0x1000_0000],
        flagsCorruptedBy: ['set_variable'],
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

  test('is refused by file where something is missing, cut or no number', () => {
    const cutLog = folderWith()
    truncateSync(join(cutLog, 'boot1.dmesg.gz'), 40)
    expect(refusal(cutLog)).toMatchObject({
      code: 'INTAKE_BINARY',
      file: join(cutLog, 'boot1.dmesg.gz'),
    })

    const noBanner = folderWith({ 'boot1.dmesg.gz': gzipSync('[    0.1] something else\n') })
    expect(refusal(noBanner)).toMatchObject({ code: 'INTAKE_INCOMPLETE', line: 1 })

    const cutTables = folderWith({ 'boot1.efi-pgd.json': '{"ranges": [["0x0", "0x' })
    expect(refusal(cutTables)).toMatchObject({
      code: 'INTAKE_BAD_ENTRY',
      file: join(cutTables, 'boot1.efi-pgd.json'),
    })

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
