import type { Machine } from '@trapdoor/core'
import { MONOTONIC_COUNT_VARIABLE } from './services/monotonic-count-variable.ts'
import { decodeVariables } from './services/variable-store.ts'

/** Physical places of what a reset keeps, and of what is computed from it. */
export interface PersistentState {
  readonly nvStore: number
  readonly nvStoreBytes: number
  /** Address of the 64-bit monotonic count. */
  readonly monotonicCount: number
}

const CMOS_INDEX = 0x70
const CMOS_DATA = 0x71
const CMOS_REGISTERS = 128

/** Carries the NV store and CMOS of `before` into `after`, a machine that was just powered on, which counts this boot. Each may have them elsewhere. */
export function keepOverReset(
  before: { readonly machine: Machine; readonly persistent: PersistentState },
  after: { readonly machine: Machine; readonly persistent: PersistentState },
): void {
  const bytes = before.machine.memory.read(
    before.persistent.nvStore,
    before.persistent.nvStoreBytes,
  )
  after.machine.memory.write(after.persistent.nvStore, bytes)
  countBoot(after.machine, after.persistent, bytes)
  keepCmos(before.machine, after.machine)
}

/** Carries the registers of the clock, and the memory behind it, from one machine to another. */
export function keepCmos(before: Machine, after: Machine): void {
  // Selecting a register changes the machine; the one that was reset may still be looked at.
  const ports = before.ports.fork()
  for (let register = 0; register < CMOS_REGISTERS; register++) {
    ports.out8(CMOS_INDEX, register)
    after.ports.out8(CMOS_INDEX, register)
    after.ports.out8(CMOS_DATA, ports.in8(CMOS_DATA))
  }
}

/** MonotonicCounterDriverInitialize: the high half is one more at each boot, and is written back. */
function countBoot(machine: Machine, state: PersistentState, store: Uint8Array): void {
  const { name, vendor } = MONOTONIC_COUNT_VARIABLE
  const variable = decodeVariables(store).find((each) => each.is(name, vendor))
  if (variable === undefined || variable.data.length < 4) return
  const dataAt = state.nvStore + variable.data.byteOffset
  const high = (machine.memory.read32(dataAt) + 1) >>> 0
  machine.memory.write32(dataAt, high)
  machine.memory.write64(state.monotonicCount, BigInt(high) << 32n)
}
