import { formatAddress, PAGE_SIZE, PAGE_SIZE_2M } from '@trapdoor/core'
import type { ObservedKernel } from '@trapdoor/intake'
import { descriptorEnd, isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import type { Difference } from './difference.ts'
import type { ComparedKernels } from './differences.ts'

/** Why a difference is none of the model's. */
export interface Explanation {
  readonly reason: string
  /** The kernel's source. */
  readonly source: string
}

/** What is known about both sides of a kernel. */
export interface Evidence extends ComparedKernels {
  readonly differences: readonly Difference[]
  /** Where the map that the model ran on has its memory attributes table, and where this boot's log says that it was. */
  readonly attributesTable: {
    readonly inMap: number | undefined
    readonly inLog: number | undefined
  }
}

type Explain = (difference: Difference, evidence: Evidence) => Explanation | undefined

/**
 * The page allocator of the first kernel chooses where the map for the firmware goes; everything else of these pages must agree, and they must be memory that nobody else has: RAM, and in
 * no region of the map. What kexec hands over lies where the log says, in the model too.
 */
const memmapPlace: Explain = (difference, { observed, model, differences }) => {
  const { memmap } = model
  if (observed.loader !== undefined || memmap === undefined) return undefined
  if (difference.subject !== 'EFI page tables') return undefined
  const isModels = (each: Difference): boolean =>
    each.observed === 'nothing' && each.modelAt === memmap.start && each.bytes === memmap.bytes
  const models = differences.find(isModels)
  if (models === undefined) return undefined
  const kernels = differences.filter(
    (each) =>
      each.model === 'nothing' &&
      each.bytes === memmap.bytes &&
      each.subject === 'EFI page tables' &&
      rights(each.observed) === rights(models.model) &&
      isIdentity(each.observed) &&
      isFreeRam(each.observedAt!, memmap.bytes, { observed, model }),
  )
  // Of two candidates nobody could say which it is.
  if (kernels.length !== 1) return undefined
  if (difference !== models && difference !== kernels[0]) return undefined
  return {
    reason:
      'the pages of the memory map for the firmware, whose address the page allocator chooses; number, rights, cache bits and identity agree, and they are RAM in no region of the map',
    source:
      'arch/x86/platform/efi/efi.c, efi_map_regions(): realloc_pages(); efi_64.c, efi_setup_page_tables()',
  }
}

/**
 * The firmware's map is that of another boot of the same machine, in which boot-services memory lay a little elsewhere. Both sides must have a page there, alike in all but by how many bytes
 * their addresses are apart.
 */
const attributesTablePlace: Explain = (difference, { attributesTable, differences }) => {
  const { inMap, inLog } = attributesTable
  if (inMap === undefined || inLog === undefined || inMap === inLog) return undefined
  const isModels = (each: Difference): boolean =>
    each.modelAt === pageOf(inMap) && each.observed === 'nothing'
  const isKernels = (each: Difference): boolean =>
    each.observedAt === pageOf(inLog) && each.model === 'nothing'
  const apart = pageOf(inLog) - pageOf(inMap)
  const isPair = (kernels: Difference, models: Difference): boolean =>
    kernels.subject === models.subject && kernels.observed === moved(models.model, apart)
  const hasCounterpart = isModels(difference)
    ? differences.some((each) => isKernels(each) && isPair(each, difference))
    : isKernels(difference) &&
      differences.some((each) => isModels(each) && isPair(difference, each))
  if (!hasCounterpart) return undefined
  return {
    reason:
      'the page of the memory attributes table: the firmware map was taken from another boot, in which the table lay elsewhere, as both logs say (MEMATTR=); but for the address all of it agrees',
    source: 'drivers/firmware/efi/memattr.c, efi_memattr_init(): memblock_reserve()',
  }
}

/** The linker has put the trampoline somewhere in .rodata, in the model it is at the beginning: one page on each side is executable where the other's is not. */
const returnTrampoline: Explain = (difference, { observed, differences }) => {
  const { rodata } = observed.iomem ?? {}
  if (rodata === undefined || difference.subject !== 'EFI page tables') return undefined
  const isInRodata = ({ subject, observedAt: at, bytes }: Difference): boolean =>
    subject === 'EFI page tables' &&
    at !== undefined &&
    bytes === PAGE_SIZE &&
    at >= rodata.start &&
    at < rodata.end
  const is = (each: Difference, machine: string, model: string): boolean =>
    isInRodata(each) && rights(each.observed) === machine && rights(each.model) === model
  const machines = differences.filter((each) => is(each, ONE_EXECUTABLE, ONE_READABLE))
  const models = differences.filter((each) => is(each, ONE_READABLE, ONE_EXECUTABLE))
  if (machines.length !== 1 || models.length !== 1) return undefined
  if (difference !== machines[0] && difference !== models[0]) return undefined
  return {
    reason:
      'the page of .rodata with the return trampoline of mixed mode, the only one of the kernel that is executable there: where it is in .rodata the linker decides',
    source: 'arch/x86/platform/efi/efi_64.c, efi_setup_page_tables(): __efi64_thunk_ret_tramp',
  }
}

const ONE_EXECUTABLE = '1 × 4K r-x'
const ONE_READABLE = '1 × 4K r--'

/** Memory that ACPI announces when the kernel runs: user space is shown it beside what the loader had given, which the log has. */
const hotAddedMemory: Explain = (difference, { observed: { e820 = [], biosE820 } }) => {
  const { subject, model, observedAt, bytes } = difference
  if (subject !== 'e820 map' && subject !== 'corrected e820 map') return undefined
  if (model !== 'nothing' || biosE820 === undefined) return undefined
  const added = e820.find(
    ({ type, start, end }) =>
      type === 'System RAM' && start === observedAt && end - start === bytes,
  )
  if (added === undefined) return undefined
  if (biosE820.some(({ start, end }) => start < added.end && added.start < end)) return undefined
  return {
    reason:
      'memory that was added while the kernel ran: /sys/firmware/memmap has it, and the e820 map that the kernel printed at boot has nothing there',
    source: 'mm/memory_hotplug.c, add_memory_resource(): firmware_map_add_hotplug()',
  }
}

/**
 * kexec may put an image over boot-services memory, and without /proc/iomem nobody knows where it was: such a region is marked, and differs in nothing else. An image is in one piece, and so is an initrd:
 * between regions that are marked for one of them there is none that is not, and no more room than it takes.
 */
const unknownImage: Explain = (difference, { observed, differences }) => {
  if (observed.loader === undefined || observed.iomem?.image !== undefined) return undefined
  if (!isMarkedAlone(difference)) return undefined
  const marked = new Set(differences.filter(isMarkedAlone).map(({ observedAt }) => observedAt))
  const spans = spansOf(observed.runtimeMap ?? [], marked)
  const isEnough =
    observed.initrd === undefined
      ? spans.length <= 2
      : spans.length === 1 && spans[0]!.bytesBetween <= longestImage(observed)
  if (!isEnough) return undefined
  return {
    reason:
      'boot-services memory that the kernel’s image or the initrd may lie in, which the machine’s kernel marks; where kexec had put the image is not known, as /proc/iomem is not at hand, but what is marked has no more pieces than there are images',
    source: 'arch/x86/platform/efi/quirks.c, efi_reserve_boot_services(): can_free_region()',
  }
}

/** Whether the machine's kernel has marked a region of boot services that the model's has not, in all else alike. */
function isMarkedAlone({ subject, observed, model }: Difference): boolean {
  return (
    subject === 'runtime map' &&
    observed.startsWith('BootServices') &&
    observed.replace(' RUNTIME|', ' ') === model
  )
}

/** Bytes from the end of the first region to the beginning of the last of a piece of memory that lies in all of them. */
interface Span {
  readonly bytesBetween: number
}

/** The pieces that the regions which begin at `marked` may be of: one that no kernel marks lies between two of them. */
function spansOf(
  map: readonly MemoryDescriptor[],
  marked: ReadonlySet<number | undefined>,
): Span[] {
  const services = map
    .filter(({ type }) => BOOT_SERVICES.has(type))
    .toSorted((a, b) => a.physicalStart - b.physicalStart)
  const spans: MemoryDescriptor[][] = []
  let isInside = false
  for (const descriptor of services) {
    const isMarked = marked.has(descriptor.physicalStart)
    if (isMarked && isInside) spans.at(-1)!.push(descriptor)
    else if (isMarked) spans.push([descriptor])
    isInside = isMarked || (isInside && isRuntime(descriptor))
  }
  return spans.map((span) => ({
    bytesBetween: span.at(-1)!.physicalStart - descriptorEnd(span[0]!),
  }))
}

/** Bytes of an image whose parts the kernel has counted: each of text, read-only data, data and what follows begins at a multiple of 2 MiB (vmlinux.lds.S). */
function longestImage({ imageBytes = 0 }: ObservedKernel): number {
  return imageBytes + 4 * PAGE_SIZE_2M
}

const BOOT_SERVICES: ReadonlySet<number> = new Set([
  MemoryType.BootServicesCode,
  MemoryType.BootServicesData,
])

const EXPLANATIONS: readonly Explain[] = [
  memmapPlace,
  attributesTablePlace,
  returnTrampoline,
  hotAddedMemory,
  unknownImage,
]

/** Why a difference is none of the model's; undefined where nobody knows. */
export function explainDifference(
  difference: Difference,
  evidence: Evidence,
): Explanation | undefined {
  for (const explain of EXPLANATIONS) {
    const explanation = explain(difference, evidence)
    if (explanation !== undefined) return explanation
  }
  return undefined
}

/** Whether bytes are RAM by the kernel's own map, and in none of the regions that it has mapped for the firmware. */
function isFreeRam(start: number, bytes: number, { observed, model }: ComparedKernels): boolean {
  const end = start + bytes
  const ram = observed.iomem?.e820 ?? observed.e820 ?? []
  return (
    ram.some((each) => each.type === 'System RAM' && each.start <= start && end <= each.end) &&
    (observed.runtimeMap ?? model.runtimeMap ?? []).every(
      ({ physicalStart, numberOfPages }) =>
        end <= physicalStart || physicalStart + numberOfPages * PAGE_SIZE <= start,
    )
  )
}

/** Number, size and rights of a run of leaves, without where they are. */
function rights(leaves: string): string {
  return leaves.split(' at ')[0]!
}

function isIdentity(leaves: string): boolean {
  const [from, to] = leaves.split(' at ')[1]?.split(' to ') ?? []
  return from !== undefined && from === to
}

/** A description with all addresses in it so many bytes further up. */
function moved(description: string, bytes: number): string {
  return description.replaceAll(/0x[0-9a-f]+/g, (address) =>
    formatAddress(BigInt(address) + BigInt(bytes)),
  )
}

function pageOf(address: number): number {
  return Math.floor(address / PAGE_SIZE) * PAGE_SIZE
}
