import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { captureFirmware, planCapture } from '@trapdoor/capture'
import { readObservedSnapshot, writeSnapshot } from '@trapdoor/snapshot'
import { ARCHITECTURES, formatGuid, getNatural, Guid, SYSTEM_TABLE_SIGNATURE } from '@trapdoor/uefi'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { changedWords, runtimeRegions } from './changed-words.ts'
import { type Run, trapdoor } from './command.ts'
import { IS_INSTALLED, NEEDS, ovmf, snapshotOf } from './firmwares.ts'
import { IS_OBSERVED, NEEDS_OBSERVED, observed, SECOND_SERIAL_PORT } from './observed.ts'

let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'trapdoor-capture-test-'))
})

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

/** Runs the command in the test's folder, with a cache of its own. */
function capture(args: readonly string[], signal?: AbortSignal): Promise<Run> {
  const env = { ...process.env, XDG_CACHE_HOME: join(folder, 'cache') }
  return trapdoor(['capture', ...args], { cwd: folder, env, signal })
}

/** Folders that a capture has in the temporary folder while it runs. */
function leftovers(): string[] {
  return readdirSync(tmpdir()).filter((name) => /^trapdoor-capture-(?!test)/.test(name))
}

describe.skipIf(!IS_INSTALLED)(`a captured firmware (${NEEDS})`, () => {
  const builds = [
    ['pc', 'OVMF_CODE.fd', 'x64'],
    ['q35', 'OVMF_CODE.fd', 'x64'],
    ['pc', 'OVMF_CODE_4M.fd', 'x64'],
    ['q35', 'OVMF_CODE_4M.fd', 'x64'],
    ['q35', 'OVMF_CODE.secboot.fd', 'x64'],
    ['q35', 'OVMF_CODE_4M.secboot.fd', 'x64'],
    // With Microsoft's keys.
    ['q35', 'OVMF_CODE_4M.ms.fd', 'x64'],
    ['q35', 'OVMF32_CODE_4M.secboot.fd', 'ia32'],
  ] as const

  test.each(builds)('on %s: %s', async (board, name, architecture) => {
    const path = await snapshotOf({ board, firmware: ovmf(name) })
    const snapshot = readObservedSnapshot(path)
    const document = JSON.parse(readFileSync(join(path, 'snapshot.json'), 'utf8')) as {
      architecture: string
      fw_vendor: string
      config_tables: { guid: string; pa: string }[]
    }
    expect(document).toMatchObject({ architecture, fw_vendor: 'EDK II' })
    expect(document.config_tables.map(({ guid }) => guid)).toContain(Guid.ACPI_20)
    expect(snapshot.board).toBe(board)
    expect(runtimeRegions(snapshot).length).toBeGreaterThanOrEqual(2)
    // The firmware has let go: what only boot services have is gone from its table.
    const layout = ARCHITECTURES[architecture]
    const { systemTable, systemTableSize } = layout.tables
    const table = bytesAt(snapshot, snapshot.systemTable, systemTableSize)
    expect(table.getBigUint64(0, true)).toBe(SYSTEM_TABLE_SIGNATURE)
    expect(getNatural(layout, table, systemTable.BootServices)).toBe(0n)
    expect(getNatural(layout, table, systemTable.ConOut)).toBe(0n)
    // The variable store is a firmware volume of its type, right below the code.
    const { address, contents } = snapshot.flash!
    expect(formatGuid(contents.subarray(16, 32))).toBe('fff12b8d-7696-4c8b-a985-2747075b4f50')
    expect(address + contents.length + readFileSync(ovmf(name)).length).toBe(2 ** 32)
  })

  test.skipIf(!IS_OBSERVED).each([
    ['pc-2M-512M', 'pc', 'OVMF_CODE.fd'],
    ['q35-4M-512M', 'q35', 'OVMF_CODE_4M.fd'],
  ] as const)(
    `has the runtime memory that %s had, but for configuration tables of a kernel (${NEEDS_OBSERVED})`,
    async (recorded, board, name) => {
      const path = await snapshotOf({ board, firmware: ovmf(name), qemu: SECOND_SERIAL_PORT })
      const [ours, theirs] = [path, observed(recorded)].map((each) => readObservedSnapshot(each))
      expect(runtimeRegions(ours!)).toEqual(runtimeRegions(theirs!))
      expect(ours!.flash).toEqual(theirs!.flash)
      const { systemTable, configurationTable } = tablesOf(path)
      const elsewhere = changedWords(ours!, theirs!).filter(
        (word) =>
          !(word >= systemTable && word < systemTable + 0x78) &&
          !(word >= configurationTable && word < configurationTable + 13 * 24),
      )
      expect(elsewhere).toEqual([])
      expect(ours!.cpu).toMatchObject({
        cr0: theirs!.cpu.cr0,
        cr3: theirs!.cpu.cr3,
        cr4: theirs!.cpu.cr4,
        efer: theirs!.cpu.efer,
        gdt: theirs!.cpu.gdt,
        segments: { cs: theirs!.cpu.segments.cs, ss: theirs!.cpu.segments.ss },
      })
    },
  )

  test('is the same, byte for byte, when it is captured again', async () => {
    const plan = planCapture({ board: 'pc', firmware: ovmf('OVMF_CODE.fd') })
    const cached = await snapshotOf({ board: 'pc', firmware: ovmf('OVMF_CODE.fd') })
    const again = join(folder, 'again')
    await writeSnapshot(again, await captureFirmware(plan, { timeout: 280 }))
    const names = readdirSync(cached).toSorted()
    expect(readdirSync(again).toSorted()).toEqual(names)
    for (const name of names) {
      expect(readFileSync(join(again, name)).equals(readFileSync(join(cached, name)))).toBe(true)
    }
  })

  test('from a disk is started by the firmware’s boot manager', async () => {
    const snapshot = readObservedSnapshot(
      await snapshotOf({ firmware: ovmf('OVMF_CODE_4M.fd'), start: 'disk' }),
    )
    expect(snapshot.origin).toContain('fat:rw:disk')
    expect(runtimeRegions(snapshot).length).toBeGreaterThanOrEqual(4)
  })

  test('goes where the caller says, once; without that into the cache, and is found there', async () => {
    const first = await capture(['--board', 'pc', ovmf('OVMF_CODE.fd'), '-o', 'here'])
    expect(first).toMatchObject({ code: 0, stdout: `${join(folder, 'here')}\n` })
    const second = await capture(['--board', 'pc', ovmf('OVMF_CODE.fd'), '-o', 'here'])
    expect(second.code).toBe(2)
    expect(second.stderr).toContain('SNAPSHOT_FOLDER_THERE')
    // Nobody waits for a boot to hear that.
    expect(second.stderr).not.toContain('starting')
    const cached = await capture(['--board', 'pc', ovmf('OVMF_CODE.fd')])
    expect(cached.code).toBe(0)
    expect(cached.stdout).toMatch(/trapdoor\/snapshots\/pc-OVMF_CODE-512M-[\da-f]{16}\n$/)
    expect(await capture(['--board', 'pc', ovmf('OVMF_CODE.fd')])).toEqual(cached)
    expect(readdirSync(join(folder, 'cache/trapdoor/snapshots'))).toHaveLength(1)
  })

  test('that never starts the application is given up, with what it printed', async () => {
    const before = leftovers()
    // A flash without a firmware for the processor to start: it runs into nothing.
    const firmware = join(folder, 'empty.fd')
    const bytes = Buffer.alloc(0x20_0000, 0xff)
    readFileSync(ovmf('OVMF_VARS.fd')).copy(bytes)
    // JMP to itself where processors begin.
    bytes.set([0xeb, 0xfe], bytes.length - 16)
    writeFileSync(firmware, bytes)
    const { code, stdout, stderr } = await capture([firmware, '--timeout', '5'])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(
      'error CAPTURE_TIMEOUT: expected the machine to be done within 5 seconds',
    )
    expect(stderr).toContain('the serial console ends with: nothing')
    expect(leftovers()).toEqual(before)
  })

  test('on a machine that QEMU does not have is an error with QEMU’s words', async () => {
    const { code, stderr } = await capture([ovmf('OVMF_CODE.fd'), '--cpu', 'no-such-model'])
    expect(code).toBe(2)
    expect(stderr).toContain(
      'error CAPTURE_QEMU_FAILED: expected qemu-system-x86_64 to run until it is ended',
    )
    expect(stderr).toContain('no-such-model')
  })

  test('of which the user has had enough leaves nothing behind', async () => {
    const before = leftovers()
    const controller = new AbortController()
    const running = capture([ovmf('OVMF_CODE.fd'), '-o', 'never'], controller.signal)
    setTimeout(() => controller.abort(), 1500)
    expect((await running).code).toBe(130)
    expect(existsSync(join(folder, 'never'))).toBe(false)
    expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([])
    expect(leftovers()).toEqual(before)
  })
})

describe('errors of the command line', () => {
  test('a firmware that is not there, and a file that is none', async () => {
    const absent = await capture(['nowhere.fd'])
    expect(absent.code).toBe(2)
    expect(absent.stderr).toBe(
      'error CAPTURE_NO_FIRMWARE: expected a file, found nothing of this name\n  at nowhere.fd\n',
    )
    writeFileSync(join(folder, 'text.fd'), 'text')
    const text = await capture(['text.fd'])
    expect(text.code).toBe(2)
    expect(text.stderr).toContain('error CAPTURE_NOT_FIRMWARE')
  })

  test('numbers and boards that are none', async () => {
    expect((await capture(['--memory', '0'])).stderr).toContain('CAPTURE_BAD_OPTION')
    expect((await capture(['--board', 'isapc'])).code).toBe(2)
  })

  test.skipIf(!IS_INSTALLED)(
    `a machine without QEMU is told how to get it (${NEEDS})`,
    async () => {
      const path = process.env['PATH']
      onTestFinished(() => {
        process.env['PATH'] = path
      })
      const empty = join(folder, 'no-programs')
      mkdirSync(empty, { recursive: true })
      process.env['PATH'] = empty
      const { code, stderr } = await capture([ovmf('OVMF_CODE.fd')])
      expect(code).toBe(2)
      expect(stderr).toContain('error CAPTURE_QEMU_MISSING')
      expect(stderr).toContain('apt-get install --no-install-recommends qemu-system-x86 ovmf')
    },
  )
})

/** Bytes of a snapshot's memory. */
function bytesAt(
  { pages }: ReturnType<typeof readObservedSnapshot>,
  address: number,
  length: number,
): DataView {
  const run = pages.find(
    (each) => each.address <= address && address + length <= each.address + each.bytes.length,
  )!
  return new DataView(run.bytes.buffer, run.bytes.byteOffset + address - run.address, length)
}

function tablesOf(path: string): { systemTable: number; configurationTable: number } {
  const { systab_pa: systemTable, config_table_pa: configurationTable } = JSON.parse(
    readFileSync(join(path, 'snapshot.json'), 'utf8'),
  ) as Record<string, string>
  return { systemTable: Number(systemTable), configurationTable: Number(configurationTable) }
}
