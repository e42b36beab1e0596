import { PAGE_SIZE } from '@trapdoor/core'
import type { ByteRange } from '../boot/loader.ts'
import type { Kernel } from '../kernel.ts'
import { isLinux } from '../linux-version.ts'
import { type E820Entry, E820Type, ramRanges } from '../memory/e820.ts'

/**
 * The system call that a kernel was loaded with. `kexec_load`: kexec-tools put everything together in user space, out of what the kernel shows in /sys and /proc. `kexec_file_load`
 * (Linux 3.17 and later): the kernel does it itself.
 */
export type KexecLoader = 'kexec_load' | 'kexec_file_load'

/** REALMODE_IVT_END of kexec-tools. */
const INTERRUPT_TABLE_END = 0x400
const LOW_MEMORY = 0x10_0000
/** Where get_backup_area() of kexec-tools looks for the first RAM. */
const BACKUP_LIMIT = 0xa_0000
/** What kexec-tools keep for the ELF headers of the dump, at least. */
const LEAST_HEADER_BYTES = 0x4000
const SEGMENT_ALIGN = 1024
const ELF_HEADER = 64
const PROGRAM_HEADER = 56
/** CONFIG_NR_CPUS_DEFAULT and CONFIG_CRASH_MAX_MEMORY_RANGES, as distributions have them. */
const MOST_CPUS = 8192
const MOST_RANGES = 8192

/**
 * The e820 map that kexec gives the next kernel. kexec_file_load copies what the loader of this kernel said (setup_e820_entries(), arch/x86/kernel/kexec-bzimage64.c); kexec-tools
 * 2.0.25 take it from /sys/firmware/memmap without the real-mode interrupt table, and with `add_efi_memmap` from /proc/iomem, which is this kernel's corrected map
 * (get_memory_ranges(), kexec/arch/i386/kexec-x86-common.c).
 */
export function kexecE820(kernel: Kernel, loader: KexecLoader): readonly E820Entry[] {
  const { e820 } = kernel.bootParams
  if (loader === 'kexec_file_load') return e820
  const ranges = kernel.commandLine.addEfiMemmap ? kernel.e820 : e820
  const first = ranges.findIndex(
    ({ type, start }) => type === E820Type.RAM && start < INTERRUPT_TABLE_END,
  )
  const table = ranges[first]
  return table === undefined ? ranges : ranges.with(first, { ...table, start: INTERRUPT_TABLE_END })
}

/** What a crash kernel gets. */
export interface CrashMemory {
  readonly e820: readonly E820Entry[]
  /** What of the reserved region is RAM for it, in bytes. */
  readonly usable: ByteRange
  /** Where kexec's purgatory saves low memory to before the crash kernel overwrites it; undefined where the kernel that crashed has kept its hands off. */
  readonly backup: { readonly from: ByteRange; readonly to: number } | undefined
}

/**
 * The memory map of the crash kernel: low memory, the reserved region without the headers of the dump, and everything that is no RAM in the map of the kernel that crashes
 * (crash_setup_memmap_entries(), arch/x86/kernel/crash.c; load_crashdump_segments() of kexec-tools 2.0.25, kexec/arch/i386/crashdump-x86.c, which also saves the first low range to a
 * backup segment at the region's end).
 */
export function crashMemory(kernel: Kernel, region: ByteRange, loader: KexecLoader): CrashMemory {
  const ram = ramRanges(kernel.e820)
  const others = kernel.e820.filter(({ type }) => type !== E820Type.RAM)
  const low = ram.filter(({ end }) => end <= LOW_MEMORY)
  const alsoReserved = kernel.crashLowRegion === undefined ? [] : [kernel.crashLowRegion]
  const map = (ranges: readonly ByteRange[]): E820Entry[] => [
    ...others,
    ...ranges.map(({ start, end }) => ({ start, end, type: E820Type.RAM })),
  ]
  if (loader === 'kexec_file_load') {
    const usable = { start: region.start + roomForHeaders(kernel), end: region.end }
    return { e820: map([...low, ...alsoReserved, usable]), usable, backup: undefined }
  }
  const from = ram.find(({ end }) => end <= BACKUP_LIMIT)
  const to =
    from === undefined ? region.end : alignDown(region.end - (from.end - from.start), SEGMENT_ALIGN)
  const headers = Math.max(LEAST_HEADER_BYTES, usedHeaderBytes(kernel))
  const usable = { start: region.start, end: alignDown(to - headers, SEGMENT_ALIGN) }
  const saved = from === undefined ? [] : [from]
  return {
    e820: map([...saved, ...alsoReserved, usable]),
    usable,
    backup: from === undefined ? undefined : { from, to },
  }
}

/** Bytes of the ELF headers that tell what is in the dump: one for each CPU and range of RAM, and two more (crash_prepare_elf64_headers(), kernel/crash_core.c). */
function usedHeaderBytes(kernel: Kernel): number {
  const headers = kernel.machine.cpus.length + ramRanges(kernel.e820).length + 2
  return Math.ceil((ELF_HEADER + headers * PROGRAM_HEADER) / PAGE_SIZE) * PAGE_SIZE
}

/** Since Linux 6.6 the kernel makes room for what may be hot-plugged (crash_load_segments(), CONFIG_CRASH_HOTPLUG); kexec-tools do so when asked to, from 2.0.29 on. */
function roomForHeaders(kernel: Kernel): number {
  return isLinux(kernel, '6.6')
    ? ELF_HEADER + (2 + MOST_CPUS + MOST_RANGES) * PROGRAM_HEADER
    : usedHeaderBytes(kernel)
}

function alignDown(address: number, alignment: number): number {
  return Math.floor(address / alignment) * alignment
}
