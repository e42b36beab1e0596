import { PAGE_SIZE } from '@trapdoor/core'
import type {
  E820TypeName,
  ObservedBoot,
  ObservedE820Entry,
  ObservedFirmware,
} from '@trapdoor/intake'
import { MemoryAttribute, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { HarnessError } from '../error.ts'

const CACHEABLE = MemoryAttribute.UC | MemoryAttribute.WC | MemoryAttribute.WT | MemoryAttribute.WB
const RUNTIME = CACHEABLE | MemoryAttribute.RUNTIME
/** Images and data of a firmware need so much room, and its boot services so much code, and so much data. */
const LEAST_RUNTIME_BYTES = 2 ** 20
const BOOT_SERVICES_BYTES = 2 ** 22

/**
 * The firmware that a boot ran on: what it printed, or what another boot of the same machine did. Where the first kernel does without EFI, and so do all after it, one that has the same memory will do, made of
 * the e820 map. Throws HARNESS_NO_MEMORY_MAP where none of these is at hand.
 */
export function firmwareOf(boot: ObservedBoot, boots: readonly ObservedBoot[]): ObservedFirmware {
  const firmware =
    boot.firmware ??
    boots.find((each) => each.machine === boot.machine && each.firmware !== undefined)?.firmware ??
    (doesWithoutEfi(boot.kernels[0]?.commandLine ?? '')
      ? firmwareLike(boot.kernels[0]?.e820 ?? [])
      : undefined)
  if (firmware !== undefined) return firmware
  throw new HarnessError('HARNESS_NO_MEMORY_MAP', {
    expected: `the memory map of the firmware of ${boot.name}`,
    found: 'no firmware-map.txt, and no other boot of the same machine that has one',
    hint: 'boot the same machine once with efi=debug, and put its log there',
  })
}

/** Whether the kernel has no EFI runtime services and its map is of no use to it: then only its e820 map counts. */
function doesWithoutEfi(commandLine: string): boolean {
  return commandLine
    .split(/\s+/)
    .some((word) => word === 'noefi' || /^efi=(?:.*,)?noruntime(?:,|$)/.test(word))
}

const TYPES: Readonly<Record<E820TypeName, number>> = {
  'System RAM': MemoryType.ConventionalMemory,
  Reserved: MemoryType.ReservedMemoryType,
  'ACPI Tables': MemoryType.ACPIReclaimMemory,
  'ACPI Non-volatile Storage': MemoryType.ACPIMemoryNVS,
  'Unusable memory': MemoryType.UnusableMemory,
  'Persistent Memory': MemoryType.PersistentMemory,
  'Persistent Memory (legacy)': MemoryType.ReservedMemoryType,
  'Soft Reserved': MemoryType.ReservedMemoryType,
}

/**
 * A firmware in whose map all is where an e820 map says. Its own code and data are in the largest reserved range below 4 GiB that has RAM above it, its boot services at the end of the largest
 * range of RAM there, which is RAM to the kernel all the same.
 */
function firmwareLike(e820: readonly ObservedE820Entry[]): ObservedFirmware | undefined {
  const ram = largest(e820.filter(({ type, end }) => type === 'System RAM' && end <= 2 ** 32))
  const endOfRam = Math.max(
    0,
    ...e820.map(({ type, end }) => (type === 'System RAM' && end <= 2 ** 32 ? end : 0)),
  )
  const own = largest(e820.filter(({ type, start }) => type === 'Reserved' && start < endOfRam))
  if (ram === undefined || own === undefined || own.end - own.start < LEAST_RUNTIME_BYTES) {
    return undefined
  }
  const middle = own.start + Math.floor((own.end - own.start) / 2 / PAGE_SIZE) * PAGE_SIZE
  const services = ram.end - 2 * BOOT_SERVICES_BYTES
  const memoryMap = e820.flatMap((entry) => {
    if (entry === own) {
      return [
        descriptor(MemoryType.RuntimeServicesData, own.start, middle, RUNTIME),
        descriptor(MemoryType.RuntimeServicesCode, middle, own.end, RUNTIME),
      ]
    }
    if (entry !== ram) return [descriptor(TYPES[entry.type], entry.start, entry.end, CACHEABLE)]
    const half = services + BOOT_SERVICES_BYTES
    return [
      descriptor(MemoryType.ConventionalMemory, ram.start, services, CACHEABLE),
      descriptor(MemoryType.BootServicesData, services, half, CACHEABLE),
      descriptor(MemoryType.BootServicesCode, half, ram.end, CACHEABLE),
    ]
  })
  return { memoryMap, memoryAttributes: undefined }
}

function largest(entries: readonly ObservedE820Entry[]): ObservedE820Entry | undefined {
  return entries.toSorted((a, b) => b.end - b.start - (a.end - a.start))[0]
}

function descriptor(type: number, start: number, end: number, attribute: bigint): MemoryDescriptor {
  return {
    type,
    physicalStart: start,
    virtualStart: 0n,
    numberOfPages: (end - start) / PAGE_SIZE,
    attribute,
  }
}
