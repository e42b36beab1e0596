import { formatAddress, isCanonical } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import type { RuntimeCall } from '@trapdoor/kernel'
import { descriptorEnd, isRuntime, naturalBits, pointerArguments } from '@trapdoor/uefi'

/** A pointer that the kernel passes and of which the firmware gets a part. */
function cutPointer(call: RuntimeCall): bigint | undefined {
  const bits = naturalBits(call.kernel.requireEfi.info.architecture)
  const passed = call.passedArguments()
  const index = pointerArguments(call.service).find(
    (each) => call.args[each] !== 0n && passed[each]! >> BigInt(bits) !== 0n,
  )
  return index === undefined ? undefined : passed[index]
}

/** Physical addresses end at MAXPHYADDR, linear ones have a hole in the middle, and pointers of 32-bit firmware have 32 bits. */
export const h22AddressWidth: Rule = {
  id: 'H22',
  title: 'An address has more bits than the CPU or the firmware has',
  severity: 'error',
  advice:
    'leave the descriptor out; count linear address bits by CR4.LA57, not by what the CPU could do; pass 32-bit firmware copies that lie below 4 GiB',
  sources: [
    'Intel SDM Vol. 3, 4.1.4 and Vol. 1, 3.3.7.1 "Canonical Addressing"',
    'UEFI 2.10, 2.3.2 "IA-32 Platforms"',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.callEntered.tap('H22', (call) => {
      const pointer = cutPointer(call)
      if (pointer === undefined) return
      const arrives = BigInt.asUintN(32, pointer)
      report(call.kernel, {
        message: `${call.service} is passed ${formatAddress(pointer)}, of which ${formatAddress(arrives)} arrives`,
        explanation:
          'The firmware is built for 32 bits, and so are its arguments: it reads and writes at the address that is left of the pointer, whatever is there.',
        outcome: 'corrupt',
        call,
        actor: 'kernel',
      })
    })
    hooks.phase.tap('H22', (kernel) => {
      if (kernel.phase !== 'running' || kernel.efi === undefined) return
      const { maxPhysicalAddressBits } = kernel.machine.features
      const bits = kernel.tables.layout.mode.levels.length === 5 ? 57 : 48
      for (const region of kernel.efi.memoryMap.filter(isRuntime)) {
        const end = descriptorEnd(region)
        const { physicalStart, virtualStart } = region
        if (end > 2 ** maxPhysicalAddressBits) {
          report(kernel, {
            message: `the runtime region at ${formatAddress(physicalStart)} reaches beyond ${maxPhysicalAddressBits} physical address bits`,
            explanation:
              'An entry that maps it has reserved bits set, so that every access through it is a page fault.',
            physical: physicalStart,
            actor: 'kernel',
          })
        } else if (!isCanonical(virtualStart, bits)) {
          report(kernel, {
            message: `firmware was told that ${formatAddress(physicalStart)} is at ${formatAddress(virtualStart)}, which is not canonical`,
            explanation: `With ${bits} bits of linear addresses the bits above must be copies of the last one: an access is #GP before page tables are looked at.`,
            physical: physicalStart,
            actor: 'kernel',
          })
        }
      }
    })
  },
}
