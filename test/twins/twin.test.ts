import { statSync } from 'node:fs'

import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import { FOUR_LEVEL, PageTableBuilder, PhysicalMemory, phys, virt } from '@trapdoor/core'
import { PluginRegistry } from '@trapdoor/harness'
import { readObservedSnapshot } from '@trapdoor/snapshot'
import { MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'

import { IS_INSTALLED, NEEDS, ovmf, snapshotOf } from '../capture/firmwares.ts'
import { type Made, RESETS, stepNamed } from './calls.ts'
import { compareWithTwin } from './comparison.ts'
import { type Gap, strategyWith } from './gaps.ts'
import { Session } from './session.ts'
import { type CallState, runTwin, type TwinResult } from './twin.ts'

const RAM_BYTES = 64 * 2 ** 20
const FUNCTION = 0x40_0000
const DATA = 0x40_1000
const STACK_TOP = 0x40_3000
const RETURN_SLOT = STACK_TOP - 8
const KERNEL = 0xffff_ffff_8100_0000n
const KERNEL_PHYSICAL = 0x100_0000
const C = 1
const D = 2
const SP = 4

/** MOV RAX, [RCX]; ADD RAX, RDX; RET. */
const LOAD_AND_ADD = Uint8Array.of(0x48, 0x8b, 0x01, 0x48, 0x01, 0xd0, 0xc3)

/** Runs the function with these arguments on QEMU. */
function runOnTwin(rcx: bigint, rdx: bigint): Promise<TwinResult> {
  const memory = new PhysicalMemory()
  let next = 0x100
  const table = (): number => {
    memory.clearFrame(next)
    return next++
  }
  const root = table() * 4096
  const tables = new PageTableBuilder(memory, phys(root), table, { mode: FOUR_LEVEL })
  for (const [at, physical] of [
    [BigInt(FUNCTION), FUNCTION],
    [KERNEL, KERNEL_PHYSICAL],
  ] as const) {
    tables.mapRange(virt(at), phys(physical), 0x3000, { executable: true })
  }
  memory.write(FUNCTION, LOAD_AND_ADD)
  memory.write64(DATA, 0x1234n)
  const general = Array.from({ length: 16 }, (_, register) => BigInt(register) << 40n)
  general[C] = rcx
  general[D] = rdx
  general[SP] = BigInt(RETURN_SLOT)
  const state: CallState = {
    memory,
    ramBytes: RAM_BYTES,
    general,
    rip: BigInt(FUNCTION),
    rflags: 2,
    vectors: { fcw: 0x37f, mxcsr: 0x1f80, xmm: Array.from({ length: 64 }, (_, word) => word * 3) },
    cr0: 0x8001_0033,
    cr3: root,
    cr4: 0x620,
    efer: 0xd01,
    mode: 'long',
    returnSlot: RETURN_SLOT,
    clock: '2010-08-13T14:39:25',
    room: {
      code: { virtual: KERNEL, physical: KERNEL_PHYSICAL },
      data: { virtual: KERNEL + 0x1000n, physical: KERNEL_PHYSICAL + 0x1000 },
    },
  }
  return runTwin(state, {
    board: 'q35',
    codeFlashBytes: 0x37_c000,
    flash: new Uint8Array(0x8_4000).fill(0xff),
  })
}

test('a function runs on QEMU from our memory, page tables and registers, and comes back', async () => {
  const { ended, general, rflags, vectors, flash } = await runOnTwin(BigInt(DATA), 7n)
  expect(ended).toStrictEqual({ kind: 'returned', rax: 0x123bn })
  expect(general?.[SP]).toBe(BigInt(STACK_TOP))
  expect(general?.[15]).toBe(15n << 40n)
  // Of 0x123B, an odd number of bits in its low byte, the ADD leaves no flag but the one that is always 1, and AF: 4 and 7 carry into no bit 4.
  expect(rflags).toBe(2)
  expect(vectors).toMatchObject({ fcw: 0x37f, mxcsr: 0x1f80 })
  expect(vectors?.xmm).toEqual(Array.from({ length: 64 }, (_, word) => word * 3))
  expect(flash.every((byte) => byte === 0xff)).toBe(true)
})

test('a function that reads what the page tables lack faults on QEMU, where and how it says', async () => {
  const { ended } = await runOnTwin(0x50_0000n, 7n)
  expect(ended).toStrictEqual({
    kind: 'exception',
    vector: 14,
    errorCode: 0,
    cr2: 0x50_0000n,
    rip: BigInt(FUNCTION),
  })
})

describe.skipIf(!IS_INSTALLED)(`a captured firmware (${NEEDS})`, () => {
  const CODE = ovmf('OVMF_CODE_4M.fd')

  /** Calls of it under tables that map what it needs but for a gap, and in what each differs on QEMU. */
  async function compare(
    names: readonly string[],
    ...gaps: readonly Gap[]
  ): Promise<readonly (readonly [Made, differences: readonly string[]])[]> {
    const path = await snapshotOf({ board: 'q35', firmware: CODE, memory: 128 })
    const snapshot = readObservedSnapshot(path)
    const build = { name: 'q35', firmware: CODE, snapshot, codeFlashBytes: statSync(CODE).size }
    const session = Session.start({ snapshot, strategy: { definition: strategyWith(...gaps) } })
    const compared: [Made, readonly string[]][] = []
    for (const name of names) {
      const made = stepNamed(name).run(session)!
      compared.push([made, await compareWithTwin(made.call, build)])
    }
    return compared
  }

  test('sets its clock and writes a variable into its flash here as on QEMU', async () => {
    const compared = await compare(['SetTime', 'SetVariable', 'GetTime, after SetTime'])
    for (const [{ call, surprise }, differences] of compared) {
      expect(call.exit.ended).toStrictEqual({ kind: 'returned', rax: 0n })
      expect([surprise, differences]).toStrictEqual([undefined, []])
    }
  })

  test('resets the machine here as on QEMU, by the same write to the same port', async () => {
    const path = await snapshotOf({ board: 'q35', firmware: CODE, memory: 128 })
    const snapshot = readObservedSnapshot(path)
    const build = { name: 'q35', firmware: CODE, snapshot, codeFlashBytes: statSync(CODE).size }
    for (const reset of RESETS) {
      const session = Session.start({ snapshot, strategy: { definition: strategyWith() } })
      const { call } = reset.run(session)!
      expect(call.exit.ended).toStrictEqual({ kind: 'reset' })
      expect(call.exit.ports.at(-1)).toMatchObject({ kind: 'write' })
      expect(await compareWithTwin(call, build)).toStrictEqual([])
    }
  })

  test.each(['linux-3.15-mixed', 'i386-legacy-virtual', 'i386-paging-off'])(
    'of 32 bits tells the time here as on QEMU under %s',
    async (name) => {
      const firmware = ovmf('OVMF32_CODE_4M.secboot.fd')
      const path = await snapshotOf({ board: 'q35', firmware, memory: 128 })
      const snapshot = readObservedSnapshot(path)
      const { size: codeFlashBytes } = statSync(firmware)
      const definition = new PluginRegistry(BUILT_IN_PLUGINS).strategy(name)
      const session = Session.start({ snapshot, strategy: { definition } })
      const { call, surprise } = stepNamed('GetTime').run(session)!
      expect(call.exit.ended).toStrictEqual({ kind: 'returned', rax: 0n })
      expect(call.exit.general).toHaveLength(8)
      const build = { name: 'ia32', firmware, snapshot, codeFlashBytes }
      expect([surprise, await compareWithTwin(call, build)]).toStrictEqual([undefined, []])
    },
  )

  test('faults here where it faults on QEMU, if its data is not mapped', async () => {
    const { RuntimeServicesData } = MemoryType
    const gap = { type: RuntimeServicesData, as: 'absent' } as const
    const [[made, differences]] = (await compare(['GetVariable'], gap)) as [[Made, string[]]]
    expect(made.call.exit.ended).toMatchObject({ kind: 'exception', vector: 14, errorCode: 0 })
    expect(differences).toStrictEqual([])
  })
})
