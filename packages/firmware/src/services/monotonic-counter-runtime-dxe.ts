import { EfiStatus } from '@trapdoor/uefi'
import type { FirmwareCall } from '../quirk/firmware-call.ts'
import type { DriverContext, RuntimeDriver } from './driver.ts'
import { MONOTONIC_COUNT_VARIABLE } from './monotonic-count-variable.ts'
import { keepVariableName, setOwnVariable } from './runtime-table-call.ts'

/** Slot that points to the 64-bit count. */
export const COUNT_SLOT = 'mEfiMtc'

/** edk2's MdeModulePkg/Universal/MonotonicCounterRuntimeDxe. */
export const monotonicCounterRuntimeDxe: RuntimeDriver = {
  name: 'MonotonicCounterRuntimeDxe',
  install: ({ image, machine, allocatePool }: DriverContext): void => {
    image.pointer(COUNT_SLOT, allocatePool(1, 'monotonic count'), 'event')
    keepVariableName(machine, image, MONOTONIC_COUNT_VARIABLE)
    image.service('GetNextHighMonotonicCount', getNextHighMonotonicCount)
  },
}

/** GetNextHighMonotonicCount(*HighCount): the count is kept only if the variable could be written first. */
function getNextHighMonotonicCount(call: FirmwareCall): bigint {
  const highCountAt = call.arg(0)
  if (highCountAt === 0n) return EfiStatus.INVALID_PARAMETER
  const countAt = call.pointer(COUNT_SLOT)
  const high = Number(BigInt.asUintN(32, (call.read64(countAt) >> 32n) + 1n))
  const data = new Uint8Array(4)
  new DataView(data.buffer).setUint32(0, high, true)
  if (setOwnVariable(call, data) !== EfiStatus.SUCCESS) return EfiStatus.DEVICE_ERROR
  call.write64(countAt, BigInt(high) << 32n)
  call.write32(highCountAt, high)
  return EfiStatus.SUCCESS
}
