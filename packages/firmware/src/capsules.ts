import { type Machine, PAGE_SIZE } from '@trapdoor/core'
import {
  type Architecture,
  EfiStatus,
  encodeStatus,
  encodeUcs2,
  getNatural,
  parseGuid,
  setNatural,
} from '@trapdoor/uefi'
import type { PersistentState } from './reset.ts'
import { CAPSULE_UPDATE_DATA } from './services/capsule-runtime-dxe.ts'
import {
  decodeVariables,
  formatStore,
  NV_BS_RT,
  sameBytes,
  type Variable,
} from './services/variable-store.ts'

/** EFI_CAPSULE_HEADER (UEFI 2.10, 8.5.3). */
const CapsuleHeader = { HeaderSize: 16, CapsuleImageSize: 24, Bytes: 28 } as const
/** EFI_CAPSULE_BLOCK_DESCRIPTOR. */
const BLOCK_BYTES = 16
/** Blocks that a scatter-gather list has at most, so that one that leads to itself ends. */
const MOST_BLOCKS = 4096
/** EFI_CAPSULE_RESULT_VARIABLE_HEADER: size, reserved, capsule's GUID, time, status (UEFI 2.10, 8.5.6). */
const Result = { Guid: 8, Status: 40 } as const
const REPORT_GUID = parseGuid('39b68c46-f7fb-441b-b6ec-16b0f69821f3')

/**
 * What firmware does with a capsule that waited for a warm reset: finds its scatter-gather list through the variable CapsuleUpdateData, puts the blocks together, and says in
 * the variables Capsule0000 and CapsuleLast how it went. A capsule ends with a byte that makes the sum of all its bytes zero; where it does not, or the list is none, the
 * status is EFI_SECURITY_VIOLATION. `before` is the machine with the memory of before the reset, `after` the one that starts.
 */
export function processCapsules(
  before: Machine,
  after: Machine,
  state: PersistentState,
  architecture: Architecture,
): void {
  const variables = decodeVariables(after.memory.read(state.nvStore, state.nvStoreBytes))
  const pending = variables.find(isPending)
  if (pending === undefined) return
  const list = Number(getNatural(architecture, new DataView(pending.data.slice().buffer), 0))
  const capsule = readBlocks(before, list)
  const kept = variables.filter((each) => each !== pending)
  const reports = report(architecture, capsule?.subarray(0, 16), isWhole(capsule))
  const store = formatStore(state.nvStoreBytes, [...kept, ...reports])
  after.memory.write(state.nvStore, store)
}

function isPending({ name, vendor }: Pick<Variable, 'name' | 'vendor'>): boolean {
  return sameBytes(name, CAPSULE_UPDATE_DATA.name) && sameBytes(vendor, CAPSULE_UPDATE_DATA.vendor)
}

/** The bytes that a scatter-gather list describes; undefined where it leads out of memory. */
function readBlocks({ memory, features }: Machine, list: number): Uint8Array | undefined {
  const limit = 2 ** features.maxPhysicalAddressBits
  const parts: Uint8Array[] = []
  let at = list
  for (let count = 0; count < MOST_BLOCKS && at + BLOCK_BYTES <= limit; count++) {
    const length = Number(memory.read64(at))
    const target = Number(memory.read64(at + 8))
    if (length === 0 && target === 0) return join(parts)
    if (length === 0) at = target
    else if (target + length > limit || length > MOST_BLOCKS * PAGE_SIZE) return undefined
    else {
      parts.push(memory.read(target, length))
      at += BLOCK_BYTES
    }
  }
  return undefined
}

function isWhole(capsule: Uint8Array | undefined): boolean {
  if (capsule === undefined || capsule.length < CapsuleHeader.Bytes) return false
  const view = new DataView(capsule.buffer)
  return (
    view.getUint32(CapsuleHeader.HeaderSize, true) === CapsuleHeader.Bytes &&
    view.getUint32(CapsuleHeader.CapsuleImageSize, true) === capsule.length &&
    capsule.reduce((sum, byte) => (sum + byte) & 0xff, 0) === 0
  )
}

function report(
  architecture: Architecture,
  guid: Uint8Array | undefined,
  good: boolean,
): Variable[] {
  const data = new Uint8Array(Result.Status + architecture.naturalBytes)
  const view = new DataView(data.buffer)
  view.setUint32(0, data.length, true)
  if (guid !== undefined) data.set(guid, Result.Guid)
  const status = good ? EfiStatus.SUCCESS : EfiStatus.SECURITY_VIOLATION
  setNatural(architecture, view, Result.Status, encodeStatus(architecture, status))
  return [variable('Capsule0000', data), variable('CapsuleLast', encodeUcs2('Capsule0000'))]
}

function variable(name: string, data: Uint8Array): Variable {
  return { name: encodeUcs2(name), vendor: REPORT_GUID, attributes: NV_BS_RT, data }
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
