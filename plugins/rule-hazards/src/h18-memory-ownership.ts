import { CpuException, formatAddress, InvalidOpcode, PageFault } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import { memoryTypeName, MemoryType } from '@trapdoor/uefi'

/** What a kernel lends to the firmware for a call. */
const LENT =
  /^(?:task stack|kmalloc buffer|vmalloc buffer|module data|image|boot parameters|EFI memory map) of /

/** Memory that firmware uses must not be anybody else's. */
export const h18MemoryOwnership: Rule = {
  id: 'H18',
  title: 'Firmware uses memory that is the kernel’s',
  severity: 'warning',
  advice:
    'keep boot-services memory reserved until SetVirtualAddressMap is over, and for good on machines whose firmware goes on using it',
  sources: [
    'Linux 3.0 arch/x86/platform/efi/efi.c: efi_reserve_boot_services()',
    'UEFI 2.10, 7.2.1: boot services memory is free after ExitBootServices',
  ],
  watch: ({ hooks, report, diagnose }) => {
    hooks.callReturned.tap('H18', (call) => {
      const { owners } = call.kernel.machine.memory
      const stolen = call.touches.filter(({ frame }) => {
        const owner = owners.get(frame)
        return owner?.kind === 'kernel' && !LENT.test(owner.name)
      })
      const worst = stolen.find(({ access }) => access === 'write') ?? stolen[0]
      if (worst === undefined) return
      const { frame, access, address } = worst
      const owner = owners.get(frame)?.name ?? ''
      const written = access === 'write'
      const verb = written ? 'writes to' : access === 'execute' ? 'runs code in' : 'reads'
      report(call.kernel, {
        message: `firmware ${verb} ${formatAddress(frame * 4096)} inside ${call.service}, now ${owner}`,
        explanation: `The page was the firmware’s before ExitBootServices. Since then it belongs to the kernel, which has its ${owner} there; ${
          written
            ? 'no fault stops the write, and somebody’s data is silently changed.'
            : 'the firmware takes what it finds for its own.'
        }`,
        severity: written ? 'error' : 'warning',
        outcome: written ? 'corrupt' : 'ok',
        call,
        address,
        access,
        actor: 'firmware',
      })
    })
    diagnose(({ error, call, kernel, descriptorAt, image }) => {
      if (!(error instanceof CpuException) || call === undefined || kernel === undefined) {
        return undefined
      }
      const stolen = call.touches.find(({ frame, access }) => {
        const owner = kernel.machine.memory.owners.get(frame)
        return access !== 'write' && owner?.kind === 'kernel' && !LENT.test(owner.name)
      })
      if (stolen !== undefined) {
        const owner = kernel.machine.memory.owners.get(stolen.frame)?.name ?? ''
        return {
          message: `firmware follows what it found at ${formatAddress(stolen.frame * 4096)} inside ${call.service}, now ${owner}`,
          explanation: `Just before the exception the firmware read ${formatAddress(stolen.address)}, which it used before ExitBootServices. The page has been the kernel’s since then and holds ${owner}; what it took for a pointer or for code is somebody else’s data: ${error.message}.`,
          physical: stolen.frame * 4096,
        }
      }
      const address =
        error instanceof PageFault || error instanceof InvalidOpcode ? error.address : undefined
      if (address === undefined || address >= 2n ** 47n) return undefined
      const descriptor = descriptorAt(Number(address))
      const bootServices: readonly number[] = [
        MemoryType.BootServicesCode,
        MemoryType.BootServicesData,
      ]
      if (descriptor === undefined || !bootServices.includes(descriptor.type)) return undefined
      return {
        message: `${image ?? 'firmware'} uses ${memoryTypeName(descriptor.type)} at ${formatAddress(address)} inside ${call.service}`,
        explanation:
          'Boot-services memory is the operating system’s after ExitBootServices. This firmware goes on using it; the page tables of the call have no mapping there that would let it.',
      }
    })
  },
}
