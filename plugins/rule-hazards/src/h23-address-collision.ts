import { formatAddress, inspectAddress, InvalidOpcode, PageFault } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import type { Kernel, RuntimeCall } from '@trapdoor/kernel'
import { descriptorEnd, isRuntime, type MemoryDescriptor } from '@trapdoor/uefi'

/** The first runtime region that reaches above what a 1:1 map can have. */
function regionAbove({ tables, requireEfi: efi }: Kernel): MemoryDescriptor | undefined {
  return efi.firmwareMap.find(
    (each) => isRuntime(each) && BigInt(descriptorEnd(each)) > tables.lowHalfEnd,
  )
}

/** What the tables of a call have at the first 1:1 address of a region that is not the processes'; undefined where it is the region. */
function inItsPlace({ cpu, kernel }: RuntimeCall, region: MemoryDescriptor): string | undefined {
  const start = BigInt(region.physicalStart)
  const { lowHalfEnd } = kernel.tables
  const address = start > lowHalfEnd ? start : lowHalfEnd
  const found = inspectAddress(cpu.translationContext(), address)
  if (found.status === 'non-canonical') return 'is no linear address'
  if (found.status !== 'mapped') return 'is mapped to nothing'
  return found.physical === Number(address)
    ? undefined
    : `leads to ${formatAddress(found.physical)}`
}

/** The address at which something else is than what was meant: nothing, or other bytes than instructions. */
function whereItWent(error: unknown): bigint | undefined {
  return error instanceof PageFault || error instanceof InvalidOpcode ? error.address : undefined
}

/** A physical address at which the kernel's half begins cannot have a 1:1 mapping. */
export const h23AddressCollision: Rule = {
  id: 'H23',
  title: 'A runtime region cannot be mapped 1:1',
  severity: 'warning',
  advice:
    'give it a virtual address, or call with paging off; on i386, where the kernel’s half begins at 3 GiB, a 1:1 map ends there',
  sources: [
    'Takao Indoh and H. Peter Anvin, "EFI: run EFI in physical mode", LKML, August 2010: i386 left for later',
    'Linux 2.6.35 arch/x86/kernel/efi_32.c: physical calls of i386 are made with paging off',
  ],
  rewindable: true,
  watch: ({ hooks, report, diagnose }) => {
    hooks.callEntered.tap('H23', (call) => {
      const { kernel } = call
      if (kernel.requireEfi.virtualMode) return
      const region = regionAbove(kernel)
      const found = region === undefined ? undefined : inItsPlace(call, region)
      if (region === undefined || found === undefined) return
      report(kernel, {
        message: `the runtime region at ${formatAddress(region.physicalStart)} lies where linear addresses are the kernel’s`,
        explanation: `Firmware is called at physical addresses, and an identity map ends at ${formatAddress(kernel.tables.lowHalfEnd)}: what lies above is the kernel’s or no address at all. In the tables of ${call.service} the region’s address ${found}.`,
        physical: region.physicalStart,
        call,
        actor: 'kernel',
      })
    })
    diagnose(({ error, kernel, call, image, descriptorAt }) => {
      const address = whereItWent(error)
      if (address === undefined || call === undefined || kernel?.efi === undefined) return undefined
      if (kernel.efi.virtualMode || address < kernel.tables.lowHalfEnd) return undefined
      const region = descriptorAt(Number(address))
      if (region === undefined || !isRuntime(region)) return undefined
      return {
        message: `${image ?? 'firmware'} touches ${formatAddress(address)} inside ${call.service}, a runtime region where the 1:1 map has ended`,
        explanation: `The memory map announces the region, and firmware in physical mode uses it where it is. Linear addresses from ${formatAddress(kernel.tables.lowHalfEnd)} on are the kernel’s, so that the tables of the call cannot have it there.`,
      }
    })
  },
}
