import {
  CpuException,
  formatAddress,
  type FrameOwner,
  GeneralProtection,
  InvalidOpcode,
  PAGE_SIZE,
  PageFault,
  type PhysicalMemory,
} from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import { memoryTypeName, MemoryType } from '@trapdoor/uefi'
import { couldBePhysical } from './could-be-physical.ts'

/** What a kernel lends to the firmware for a call. */
const LENT =
  /^(?:task stack|EFI runtime stack|kmalloc buffer|vmalloc buffer|module data|image|boot parameters|EFI memory map|new_memmap) of /

/** What is nobody's. */
const FREE = 'free memory'

/** Whose a page is that the firmware has lost; undefined for its own and for what it was lent. */
function ownerNow(memory: PhysicalMemory, frame: number): string | undefined {
  const owner = memory.owners.get(frame)
  if (owner === undefined) return FREE
  return owner.kind === 'kernel' && !isLent(owner) ? owner.name : undefined
}

const IS_LENT: WeakMap<FrameOwner, boolean> = new WeakMap()

function isLent(owner: FrameOwner): boolean {
  let lent = IS_LENT.get(owner)
  if (lent === undefined) {
    lent = LENT.test(owner.name)
    IS_LENT.set(owner, lent)
  }
  return lent
}

/** Whether a page holds a 64-bit word, on an 8-byte boundary. */
function holds(memory: PhysicalMemory, frame: number, word: bigint): boolean {
  const page = new BigUint64Array(memory.read(frame * PAGE_SIZE, PAGE_SIZE).buffer)
  return page.includes(word)
}

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
  rewindable: true,
  watch: ({ hooks, report, diagnose }) => {
    hooks.callReturned.tap('H18', (call) => {
      const { memory } = call.kernel.machine
      const lost = call.touches.filter(({ frame }) => ownerNow(memory, frame) !== undefined)
      const worst = lost.find(({ access }) => access === 'write') ?? lost[0]
      if (worst === undefined) return
      const { frame, access, address, image = 'firmware' } = worst
      const owner = ownerNow(memory, frame)!
      const written = access === 'write'
      const verb = written ? 'writes to' : access === 'execute' ? 'runs code in' : 'reads'
      report(call.kernel, {
        message: `${image} ${verb} ${formatAddress(frame * PAGE_SIZE)} inside ${call.service}, which is ${owner} now`,
        explanation: `The page was the firmware’s before ExitBootServices. Since then it is the kernel’s to use, and is ${owner} now; ${
          written
            ? 'no fault stops the write, and somebody’s data is silently changed.'
            : 'the firmware takes what it finds for its own.'
        }`,
        severity: written ? 'error' : 'warning',
        outcome: written && owner !== FREE ? 'corrupt' : 'ok',
        call,
        address,
        access,
        actor: image,
      })
    })
    diagnose(({ error, call, kernel, descriptorAt, image, convertedBefore }) => {
      if (!(error instanceof CpuException) || call === undefined || kernel === undefined) {
        return undefined
      }
      const address =
        error instanceof PageFault || error instanceof InvalidOpcode
          ? error.address
          : error instanceof GeneralProtection
            ? error.value
            : undefined
      if (address === undefined) return undefined
      // The kernel's own call, of a function that firmware has not named.
      if (image === undefined && convertedBefore) return undefined
      const { memory } = kernel.machine
      // A NULL pointer comes from anywhere, and code that was jumped to has not been read as one.
      const source = call.touches.find(
        ({ frame, access }) =>
          access === 'read' &&
          address !== 0n &&
          ownerNow(memory, frame) !== undefined &&
          holds(memory, frame, address),
      )
      if (source !== undefined) {
        const page = formatAddress(source.frame * PAGE_SIZE)
        const owner = ownerNow(memory, source.frame)
        return {
          message: `${source.image ?? 'firmware'} follows a pointer that it found at ${page} inside ${call.service}, which is ${owner} now`,
          explanation: `The firmware kept a pointer in this page before ExitBootServices. The page has been the kernel’s to use since then, and what stands there is somebody else’s data: ${formatAddress(address)}, which is no address of anything.`,
          physical: source.frame * PAGE_SIZE,
        }
      }
      if (!couldBePhysical(kernel, address)) return undefined
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
