import { CpuException, formatAddress } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import type { Kernel } from '@trapdoor/kernel'
import {
  descriptorEnd,
  EfiStatus,
  efiStatusName,
  isRuntime,
  type MemoryDescriptor,
  memoryTypeName,
  MemoryType,
} from '@trapdoor/uefi'

/** A runtime region of a restored kernel's map that its firmware does not have where it was, and one of the same type that it has instead, if it has. */
interface Drift {
  readonly was: MemoryDescriptor
  readonly is: MemoryDescriptor | undefined
}

function isSamePlace(one: MemoryDescriptor, other: MemoryDescriptor): boolean {
  return (
    one.type === other.type &&
    one.physicalStart === other.physicalStart &&
    one.numberOfPages === other.numberOfPages
  )
}

/** Where firmware has drifted between the boot that the kernel has saved and the one that restored it: its code, where that has, else the first region. */
function driftOf({ efi, restoredMap }: Kernel): Drift | undefined {
  if (efi === undefined || restoredMap === undefined) return undefined
  const gone = efi.firmwareMap.filter(
    (region) => isRuntime(region) && !restoredMap.some((each) => isSamePlace(each, region)),
  )
  const was = gone.find(({ type }) => type === MemoryType.RuntimeServicesCode) ?? gone[0]
  if (was === undefined) return undefined
  const is = restoredMap.find(
    (each) => each.type === was.type && !efi.firmwareMap.some((old) => isSamePlace(old, each)),
  )
  return { was, is }
}

function place(region: MemoryDescriptor): string {
  return `${formatAddress(BigInt(region.physicalStart))} to ${formatAddress(BigInt(descriptorEnd(region)))}`
}

function tell({ was, is }: Drift): { readonly explanation: string; readonly physical: number } {
  const type = memoryTypeName(was.type)
  const now = is === undefined ? `this boot has no other ${type}` : `it is ${place(is)} now`
  return {
    explanation: `The kernel came back from hibernation with the page tables and the addresses of the boot that it was saved in. There ${type} was ${place(was)}; ${now}. What lies at the old place is whatever memory held there when the image was read back.`,
    physical: was.physicalStart,
  }
}

/** A kernel that comes back from hibernation calls firmware where it was in the boot before. */
export const hibernationDrift: Rule = {
  id: 'S4',
  title: 'A restored kernel calls firmware where it was before hibernation',
  severity: 'error',
  advice:
    'refuse an image whose firmware memory map is another (Linux compares the e820 map since 4.10), or set the runtime services up anew after the restore; firmware has to keep its runtime regions in place across S4',
  sources: [
    'Linux commit 62a03defeabd "PM / hibernate: Verify the consistent of e820 memory map by md5 digest"',
    'Insyde firmware of the Acer V3-571G: runtime regions that differ from boot to boot (Q30)',
  ],
  rewindable: true,
  watch: ({ hooks, report, diagnose }) => {
    hooks.callLeft.tap('S4', (call) => {
      const drift = driftOf(call.kernel)
      if (drift === undefined || call.status === EfiStatus.SUCCESS) return
      report(call.kernel, {
        message: `${call.service} returns ${efiStatusName(call.status)}: firmware has moved since the kernel was saved`,
        ...tell(drift),
        outcome: 'degraded',
        call,
        actor: 'kernel',
      })
    })
    diagnose(({ error, call, kernel }) => {
      if (!(error instanceof CpuException) || call === undefined || kernel === undefined) {
        return undefined
      }
      const drift = driftOf(kernel)
      if (drift === undefined) return undefined
      return {
        message: `the kernel dies inside ${call.service}, which it calls where firmware was before hibernation: ${error.message}`,
        ...tell(drift),
      }
    })
  },
}
