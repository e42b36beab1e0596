import { encodeUcs2, EfiStatus, parseGuid, ResetType, setNatural } from '@trapdoor/uefi'
import type { FirmwareCall } from '../quirk/firmware-call.ts'
import { afterExitBootServices } from './at-runtime.ts'
import type { DriverContext, RuntimeDriver } from './driver.ts'
import type { Variable } from './variable-store.ts'
import { callThroughRuntimeTable, keepVariableName, setOwnVariable } from './runtime-table-call.ts'

/** EFI_CAPSULE_HEADER flags. */
const PERSIST_ACROSS_RESET = 0x1_0000
const POPULATE_SYSTEM_TABLE = 0x2_0000
const INITIATE_RESET = 0x4_0000
/** Offset of Flags in EFI_CAPSULE_HEADER. */
const FLAGS_OFFSET = 20n
const LARGEST_CAPSULE = 0xa0_0000n
const MOST_CAPSULES = 0x1_0000n

/** The variable that tells the next boot where the scatter-gather list of a capsule is. */
export const CAPSULE_UPDATE_DATA: Pick<Variable, 'name' | 'vendor'> = {
  name: encodeUcs2('CapsuleUpdateData'),
  vendor: parseGuid('711c703f-c285-4b10-a3b0-36ecbd3c8be2'),
}

/** edk2's MdeModulePkg/Universal/CapsuleRuntimeDxe, for capsules that wait in memory for a warm reset. */
export const capsuleRuntimeDxe: RuntimeDriver = {
  name: 'CapsuleRuntimeDxe',
  install: ({ image, machine }: DriverContext): void => {
    keepVariableName(machine, image, CAPSULE_UPDATE_DATA)
    image.service('UpdateCapsule', updateCapsule)
    image.service('QueryCapsuleCapabilities', queryCapsuleCapabilities)
  },
}

/** UpdateCapsule(**CapsuleHeaderArray, CapsuleCount, ScatterGatherList). */
function updateCapsule(call: FirmwareCall): bigint {
  const [headersAt, count, scatterList] = [call.arg(0), call.arg(1), call.arg(2)]
  const flags = capsuleFlags(call, headersAt, count)
  if (flags === undefined) return EfiStatus.INVALID_PARAMETER
  const persists = flags.some((each) => (each & PERSIST_ACROSS_RESET) !== 0)
  if (!persists) {
    return afterExitBootServices(call) ? EfiStatus.OUT_OF_RESOURCES : EfiStatus.UNSUPPORTED
  }
  if (scatterList === 0n) return EfiStatus.INVALID_PARAMETER
  const data = new Uint8Array(call.architecture.naturalBytes)
  setNatural(call.architecture, new DataView(data.buffer), 0, scatterList)
  const status = setOwnVariable(call, data)
  if (status !== EfiStatus.SUCCESS) return status
  if (flags.some((each) => (each & INITIATE_RESET) !== 0)) {
    return callThroughRuntimeTable(call, 'ResetSystem', BigInt(ResetType.Warm), 0n, 0n, 0n)
  }
  return EfiStatus.SUCCESS
}

/** QueryCapsuleCapabilities(**CapsuleHeaderArray, CapsuleCount, *MaximumCapsuleSize, *ResetType). */
function queryCapsuleCapabilities(call: FirmwareCall): bigint {
  const [headersAt, count, sizeAt, resetAt] = [call.arg(0), call.arg(1), call.arg(2), call.arg(3)]
  if (sizeAt === 0n || resetAt === 0n) return EfiStatus.INVALID_PARAMETER
  const flags = capsuleFlags(call, headersAt, count)
  if (flags === undefined) return EfiStatus.INVALID_PARAMETER
  if (flags.some((each) => (each & PERSIST_ACROSS_RESET) === 0)) return EfiStatus.UNSUPPORTED
  call.write64(sizeAt, LARGEST_CAPSULE)
  call.write32(resetAt, ResetType.Warm)
  return EfiStatus.SUCCESS
}

/** The flags of each capsule, or undefined where there is none or one has flags that need PERSIST_ACROSS_RESET and lack it (UEFI 2.10, 8.5.3). */
function capsuleFlags(call: FirmwareCall, headersAt: bigint, count: bigint): number[] | undefined {
  if (headersAt === 0n || count === 0n || count > MOST_CAPSULES) return undefined
  const flags: number[] = []
  for (let index = 0n; index < count; index++) {
    const header = call.readNatural(headersAt + index * BigInt(call.architecture.naturalBytes))
    const each = call.read32(header + FLAGS_OFFSET)
    const needsPersist = (each & (POPULATE_SYSTEM_TABLE | INITIATE_RESET)) !== 0
    if (needsPersist && (each & PERSIST_ACROSS_RESET) === 0) return undefined
    flags.push(each)
  }
  return flags
}
