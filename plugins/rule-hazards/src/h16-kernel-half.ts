import { formatAddress, inspectAddress, PAGE_SIZE, PageFault, physicalAt } from '@trapdoor/core'
import type { FindingDraft, Rule } from '@trapdoor/harness'
import type { RuntimeCall } from '@trapdoor/kernel'
import { naturalBits, pointerArguments } from '@trapdoor/uefi'

/** Bytes of kernel text that switches may be in. */
const KERNEL_TEXT_BYTES = 0x40_0000

function pageOf(address: bigint): bigint {
  return address / BigInt(PAGE_SIZE)
}

/** Whether a physical address is in the text of a kernel that lies at `base`. */
function isWithin(physical: number, base: number): boolean {
  return physical >= base && physical < base + KERNEL_TEXT_BYTES
}

/** Memory of the kernel's that a call needs, and where the tables of the call do not lead to it. */
interface Missing {
  /** Such as "argument 3". */
  readonly what: string
  /** As the firmware gets it. */
  readonly address: bigint
  /** Physical addresses in bytes: by the kernel's tables, and by those of the call, undefined where they have none. */
  readonly own: number
  readonly found: number | undefined
}

/** The stack and the pointers that are passed, as the kernel has them and as the firmware gets them. */
function* neededBy(call: RuntimeCall): Generator<[what: string, own: bigint, passed: bigint]> {
  const { cpu, kernel, service, wrapperArgs: args } = call
  const bits = naturalBits(kernel.requireEfi.info.architecture)
  const top = cpu.rsp - 8n
  // A strategy that takes another stack has it where it wants.
  if (top >= kernel.tables.kernelHalfStart) yield ['the stack', top, top]
  const passed = call.passedArguments()
  for (const index of pointerArguments(service)) {
    if (args[index] === 0n) continue
    yield [`argument ${index + 1}`, args[index]!, BigInt.asUintN(bits, passed[index]!)]
  }
}

/** What a call needs and its tables have elsewhere than the kernel's, or not at all. What the TLB holds does not count: it may be gone at the next instruction. */
function missingIn(call: RuntimeCall): Missing[] {
  const { kernel, cpu, before } = call
  const { mode } = kernel.tables.layout
  if (cpu.cr3 === before.cr3 && cpu.mode === mode) return []
  const ofCall = cpu.translationContext()
  const ofKernel = { ...cpu.translationContext(before.cr3), mode }
  const missing: Missing[] = []
  for (const [what, ownAddress, address] of neededBy(call)) {
    const own = physicalAt(ofKernel, ownAddress)
    const found = physicalAt(ofCall, address)
    if (own !== undefined && own !== found) missing.push({ what, address, own, found })
  }
  return missing
}

/** Of what a call gets and whose memory is elsewhere. */
function describeMissing({ service }: RuntimeCall, { what, address, own, found }: Missing): string {
  const tables = found === undefined ? 'nowhere' : `at ${formatAddress(found)}`
  return `${service} gets ${what} at ${formatAddress(address)}, which the kernel has at ${formatAddress(own)}, and the page tables of the call ${tables}`
}

/** What has come of a call that went through all the same. */
function withoutFault(call: RuntimeCall, missing: Missing): FindingDraft {
  const { address, own } = missing
  const page = pageOf(address)
  const frames = call.touches
    .filter((touch) => pageOf(touch.address) === page)
    .map(({ frame }) => frame)
  const isReached = frames.includes(Math.floor(own / PAGE_SIZE))
  const explanation = isReached
    ? 'The firmware has reached it, by a translation that the kernel’s own access had left in the TLB. A processor may drop that at any time; then this is a page fault, or memory of somebody else.'
    : frames.length > 0
      ? 'The firmware has used what is there instead.'
      : 'The firmware has not touched it this time.'
  return {
    message: describeMissing(call, missing),
    explanation,
    call,
    address,
    actor: 'kernel',
    outcome: isReached ? 'fault' : 'ok',
  }
}

/** Every kernel address that a call can reach must be mapped in the firmware's tables as in the kernel's. */
export const h16KernelHalf: Rule = {
  id: 'H16',
  title: 'The page tables of a call lack a part of the kernel',
  severity: 'error',
  advice:
    'clone the whole kernel half (PML4 entries 256 to 511; on i386 the entries from PAGE_OFFSET on), and again whenever it grows; code that switches paging off needs itself at its physical address; where firmware gets physical addresses, look them up in the page tables',
  sources: [
    'RHEL 6 changelog 670850, 664364: "Fix EFI pagetable to map whole memory"',
    'Linux 3.14 arch/x86/platform/efi/efi_64.c: efi_sync_low_kernel_mappings()',
    'Intel SDM Vol. 3, 4.10.2.3: software must not rely on a translation to stay in the TLB',
  ],
  rewindable: true,
  watch: ({ hooks, report, diagnose }) => {
    const missing = new WeakMap<RuntimeCall, Missing[]>()
    hooks.callEntered.tap('H16', (call) => {
      const found = missingIn(call)
      if (found.length > 0) missing.set(call, found)
    })
    // Where the firmware finds out by itself it is a page fault, and no call that comes back.
    hooks.callReturned.tap('H16', (call) => {
      const [found] = missing.get(call) ?? []
      if (found !== undefined) report(call.kernel, withoutFault(call, found))
    })
    diagnose(({ error, call, kernel, cpu, image, handling }) => {
      if (!(error instanceof PageFault) || kernel === undefined) return undefined
      const physical = Number(error.address)
      const { base } = kernel.image
      if (error.access === 'execute' && image === undefined && isWithin(physical, base)) {
        return {
          message: `the code that leads to the firmware is not mapped at ${formatAddress(error.address)}, its physical address`,
          explanation: `The kernel lies at ${formatAddress(base)}. Whoever switches paging off, or to tables that have the kernel elsewhere, goes on at the physical address of the next instruction, and the alias of low memory does not reach as far.`,
        }
      }
      if (call === undefined) return undefined
      const lost = missing
        .get(call)
        ?.find(({ address }) => pageOf(address) === pageOf(error.address))
      if (lost !== undefined && error.address < kernel.tables.kernelHalfStart) {
        return {
          message: describeMissing(call, lost),
          explanation:
            'What was made of the kernel’s pointer does not lead to its memory. A subtraction, as __pa() is, is right in the direct map and in the kernel’s image, and wrong in vmalloc space and in modules.',
        }
      }
      if (error.address < kernel.tables.kernelHalfStart) return undefined
      const own = inspectAddress(cpu.translationContext(call.before.cr3), error.address)
      if (own.status !== 'mapped') return undefined
      const who = image ?? (handling === undefined ? 'the kernel' : `the ${handling} handler`)
      const why =
        handling === undefined
          ? 'The kernel passed a pointer of its own, as it does to any function.'
          : 'Interrupt handlers run on the page tables that they find, whatever they need of the kernel.'
      return {
        message: `${who} reaches for ${formatAddress(error.address)} inside ${call.service}, which the kernel maps and the tables of the call do not`,
        explanation: `${why} Its page tables map the address to ${formatAddress(own.physical)}, but ${kernel.tables.layout.mode.levels[0]!.entry} entry ${kernel.tables.rootIndex(error.address)} was not copied into the tables that are loaded during calls.`,
      }
    })
  },
}
