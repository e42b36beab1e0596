import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cr4, Efer } from '@trapdoor/core'
import {
  type DeviceAccess,
  type PageTouches,
  readObservedSnapshot,
  readRecordedCalls,
  type RecordedCall,
  type RecordedCalls,
  type WordChange,
} from '@trapdoor/snapshot'
import { TableHeader } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { trapdoor } from './command.ts'
import { IS_INSTALLED, NEEDS, ovmf } from './firmwares.ts'
import { IS_OBSERVED, NEEDS_OBSERVED, observed, SECOND_SERIAL_PORT } from './observed.ts'

/** The folder of a recording from the cache; made on first use. */
async function record(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await trapdoor(['capture', '--vectors', ...args], {
    cwd: tmpdir(),
  })
  expect({ code, stderr: stderr.split('\n').length }).toEqual({ code: 0, stderr: 2 })
  return stdout.trim()
}

describe.skipIf(!IS_INSTALLED)(`recordings (${NEEDS})`, () => {
  test.each([
    ['pc', 'OVMF_CODE.fd', /^✓ \S+: 57 calls, [\d,]+ instructions, 0 differences\n$/],
    ['q35', 'OVMF_CODE_4M.fd', /^✓ \S+: 57 calls, [\d,]+ instructions, 0 differences\n$/],
    [
      'q35',
      'OVMF_CODE_4M.secboot.fd',
      /^✓ \S+: 57 calls, [\d,]+ instructions, 0 differences\n {2}37 calls of them up to system-management mode/,
    ],
    [
      'q35',
      'OVMF32_CODE_4M.secboot.fd',
      /^✓ \S+: 57 calls, [\d,]+ instructions, 0 differences\n {2}37 calls of them up to system-management mode/,
    ],
  ])('on %s, %s: are replayed without a difference', async (board, name, verdict) => {
    const folder = await record(['--board', board, ovmf(name)])
    const replayed = await trapdoor(['replay', folder], { cwd: tmpdir() })
    expect(replayed.stdout).toMatch(verdict)
    expect(replayed.code).toBe(0)
  })

  test('of ia32 firmware are calls with arguments on the stack, in PAE paging', async () => {
    const folder = await record([ovmf('OVMF32_CODE_4M.secboot.fd')])
    const { calls, cpu } = readRecordedCalls(folder)
    expect(cpu.cr4 & Cr4.PAE).not.toBe(0)
    expect(cpu.efer & Efer.LMA).toBe(0)
    const statusOf = (name: string): bigint => calls.find((call) => call.name === name)!.status
    expect(statusOf('phys/GetVariable-notfound')).toBe(0x8000_000en)
    expect(statusOf('svam/second-call')).toBe(0x8000_0003n)
    // Firmware is where an i386 kernel has put it, in its direct map.
    const [before, after] = ['phys/GetTime', 'virt/GetTime'].map(
      (name) => calls.find((call) => call.name === name)!.functionAddress,
    )
    expect(after! - before!).toBe(0xc000_0000n)
  })

  describe.skipIf(!IS_OBSERVED)(`beside the one made under Linux (${NEEDS_OBSERVED})`, () => {
    test('agree in all 57 calls, but for what the clock said and a checksum of what is elsewhere', async () => {
      const extra = SECOND_SERIAL_PORT.map((each) => `--qemu=${each}`)
      const folder = await record(['--board', 'pc', ...extra, ovmf('OVMF_CODE.fd')])
      const [ours, theirs] = [folder, observed('pc-2M-512M')].map(readRecordedCalls)
      const { systemTable } = readObservedSnapshot(folder)
      const [mine, others] = [ours!, theirs!].map((recorded) =>
        recorded.calls.map((call) => withoutAccidents(call, recorded, systemTable)),
      )
      expect(mine).toHaveLength(57)
      expect(mine).toEqual(others)
    })

    test('place runtime regions where Linux did', async () => {
      const extra = SECOND_SERIAL_PORT.map((each) => `--qemu=${each}`)
      const folder = await record(['--board', 'pc', ...extra, ovmf('OVMF_CODE.fd')])
      const [ours, theirs] = [folder, observed('pc-2M-512M')].map(runtimePlaces)
      expect(ours).toEqual(theirs)
    })
  })
})

/** Where SetVirtualAddressMap was told that runtime regions are. */
function runtimePlaces(folder: string): unknown {
  const map = JSON.parse(readFileSync(join(folder, 'svam-map.json'), 'utf8')) as {
    type: number
    phys: string
    virt: string
    pages: number
  }[]
  return map
    .filter(({ type }) => [5, 6, 11].includes(type))
    .map(({ phys, virt, pages }) => ({ phys, virt, pages }))
}

/** A call without what depends on when it was made, and on where the caller had its memory. */
function withoutAccidents(
  call: RecordedCall,
  { scratch }: RecordedCalls,
  systemTable: number,
): unknown {
  const readsClock = call.devices.some(({ device }) => device === 'rtc')
  const place = (address: number): number =>
    address >= scratch.address && address < scratch.address + scratch.bytes
      ? address - scratch.address
      : address
  return {
    name: call.name,
    service: call.service,
    functionAddress: call.functionAddress,
    status: call.status,
    counts: call.counts,
    restored: call.restored,
    // Linux had made one region of boot services a runtime region, to keep it: the map of runtime regions was one longer.
    args: (call.name === 'svam/runtime-only' ? call.args.slice(1) : call.args).map((value) =>
      place(Number(value)),
    ),
    runtimeChanges: call.runtimeChanges
      .filter(({ address }) => address !== systemTable + TableHeader.CRC32)
      .map(changeOf),
    scratchChanges: readsClock
      ? call.scratchChanges.map(({ address }) => place(address))
      : call.scratchChanges.map((change) =>
          changeOf({ ...change, address: place(change.address) }),
        ),
    devices: call.devices.filter(({ device }) => device !== 'apic-msi').map(accessOf),
    pages: call.pages.map((touches) => touchesOf(touches, place)).toSorted(),
  }
}

function changeOf({ address, before, after }: WordChange): string {
  return [address, before, after].map((each) => each.toString(16)).join(' ')
}

function accessOf({ kind, device, address, value, size }: DeviceAccess): string {
  const isTime = kind === 'read' && device === 'rtc'
  return `${kind} ${size} ${device} ${address.toString(16)} ${isTime ? 'time' : value.toString(16)}`
}

function touchesOf(
  { page, physical, reads, writes, executions, device }: PageTouches,
  place: (address: number) => number,
): string {
  const linear = page === BigInt(physical ?? -1) ? place(Number(page)) : page
  const where = physical === undefined ? 'code' : place(physical).toString(16)
  return `${linear.toString(16)} ${where} ${reads} ${writes} ${executions} ${device ?? ''}`
}
