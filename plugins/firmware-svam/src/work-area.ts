import type { FirmwareCall, FirmwareSetup } from '@trapdoor/firmware'
import { EfiStatus } from '@trapdoor/uefi'

/** What a quirk's driver leaves in memory and expects to find there later: a signature, a counter, a function's address. */
const WorkArea = { Signature: 0n, Counter: 8n, Function: 16n } as const
const SIGNATURE = 0x6165_7241_6b72_6f57n

/** Fills a work area at physical address `address`; `code` is the function that it points to. */
export function plantWorkArea(setup: FirmwareSetup, address: number, code = 0): void {
  setup.write64(address + Number(WorkArea.Signature), SIGNATURE)
  setup.write64(address + Number(WorkArea.Function), BigInt(code))
}

/**
 * Counts a use at `address`, whoever the memory belongs to by now. Returns undefined, or a device error where the signature is gone: a
 * driver that does not find its data gives up.
 */
export function useWorkArea(call: FirmwareCall, address: bigint): bigint | undefined {
  const signature = call.read64(address + WorkArea.Signature)
  call.write64(address + WorkArea.Counter, call.read64(address + WorkArea.Counter) + 1n)
  return signature === SIGNATURE ? undefined : EfiStatus.DEVICE_ERROR
}

/** Calls the function that a work area points to now, without a look at the signature. */
export function callWorkArea(call: FirmwareCall, address: bigint): bigint {
  return call.call(call.read64(address + WorkArea.Function), address)
}
