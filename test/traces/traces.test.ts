import { statSync } from 'node:fs'

import { readObservedSnapshot } from '@trapdoor/snapshot'
import { describe, expect, test } from 'vitest'

import { IS_INSTALLED, NEEDS, ovmf, snapshotOf } from '../capture/firmwares.ts'
import { compareWithTwin } from '../twins/comparison.ts'
import { stepNamed } from '../twins/calls.ts'
import { strategyWith } from '../twins/gaps.ts'
import { Session } from '../twins/session.ts'
import { RFLAGS, Trace } from './processor-state.ts'
import { QemuTrace } from './qemu-trace.ts'
import { TraceComparison } from './trace-comparison.ts'

const CODE = 'OVMF_CODE_4M.fd'
const CF = 1n

/** Traces GetTime here, changes the trace, and compares it with QEMU's. */
async function compareGetTime(change: (trace: Trace) => void): Promise<TraceComparison> {
  const firmware = ovmf(CODE)
  const path = await snapshotOf({ board: 'q35', firmware, memory: 128 })
  const snapshot = readObservedSnapshot(path)
  let trace = new Trace()
  const session = Session.start({
    snapshot,
    strategy: { definition: strategyWith() },
    onInstruction: (cpu) => {
      trace.note(cpu)
    },
  })
  trace = new Trace()
  const { call } = stepNamed('GetTime').run(session)!
  change(trace)
  const comparison = new TraceComparison(trace)
  const theirs = await QemuTrace.create((state) => {
    comparison.compare(state)
  })
  const build = { name: 'q35', firmware, snapshot, codeFlashBytes: statSync(firmware).size }
  expect(await compareWithTwin(call, build, theirs)).toStrictEqual([])
  return comparison
}

describe.skipIf(!IS_INSTALLED)(`the trace of a call (${NEEDS})`, () => {
  test('agrees before each instruction', async () => {
    let instructions = 0
    const comparison = await compareGetTime(({ count }) => {
      instructions = count
    })
    expect(comparison.difference).toBeUndefined()
    expect(comparison.compared).toBe(instructions)
    expect(instructions).toBeGreaterThan(400)
  })

  test('differs where a flag of ours is another, and says after which instruction', async () => {
    const comparison = await compareGetTime((trace) => {
      const state = trace.state(200)
      state[RFLAGS] = state[RFLAGS]! ^ CF
    })
    expect(comparison.compared).toBe(200)
    expect(comparison.difference).toMatch(
      /^RFLAGS 0x[\da-f]+ here, 0x[\da-f]+ on QEMU, after instruction 200, .+ at 0x[\da-f]+$/,
    )
  })
})
