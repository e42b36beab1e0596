import {
  PM1_CONTROL,
  POWER_MANAGEMENT_BASE,
  RESET_CONTROL_PORT,
  SLEEP_ENABLE,
} from '@trapdoor/core'
import { EfiStatus, ResetType } from '@trapdoor/uefi'
import type { FirmwareCall } from '../quirk/firmware-call.ts'
import type { DriverContext, RuntimeDriver } from './driver.ts'

const HARD_RESET = 0x06
const FULL_RESET = 0x0e
/** PM1a_CNT, as the machine has it that this firmware is for. */
const PM1A_CONTROL_PORT = POWER_MANAGEMENT_BASE.pc + PM1_CONTROL

/** edk2's MdeModulePkg/Universal/ResetSystemRuntimeDxe on a PCH. */
export const resetSystemRuntimeDxe: RuntimeDriver = {
  name: 'ResetSystemRuntimeDxe',
  install: ({ image }: DriverContext): void => {
    image.service('ResetSystem', resetSystem)
  },
}

/** ResetSystem(ResetType, ResetStatus, DataSize, *ResetData): returns for a type that there is none of, else not at all. */
function resetSystem(call: FirmwareCall): bigint {
  switch (Number(BigInt.asUintN(32, call.arg(0)))) {
    case ResetType.Shutdown:
      call.cpu.out16(PM1A_CONTROL_PORT, SLEEP_ENABLE)
      break
    case ResetType.Warm:
      call.cpu.out8(RESET_CONTROL_PORT, HARD_RESET)
      break
    case ResetType.Cold:
    case ResetType.PlatformSpecific:
      call.cpu.out8(RESET_CONTROL_PORT, FULL_RESET)
      break
    default:
      return EfiStatus.INVALID_PARAMETER
  }
  return call.deadLoop('the reset port did not reset the machine')
}
