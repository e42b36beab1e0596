import { IntakeError } from '../error.ts'
import type { SourceLine } from '../source-text.ts'
import { type ObservedE820Entry, readBiosE820 } from './e820.ts'
import type { ObservedRange } from './iomem.ts'

/** What a kernel's log says of how it was started and how it ended, as far as EFI is concerned. */
export interface KernelLog {
  /** Such as "6.1.0-56-cloud-amd64". */
  readonly version: string
  readonly commandLine: string
  /** Where the loader put the initrd, physical bytes, `end` exclusive. */
  readonly initrd: { readonly start: number; readonly end: number } | undefined
  /** Physical addresses of the EFI configuration tables that it knows, by the name that it prints, such as "SMBIOS" or "MEMATTR". Empty where it printed none. */
  readonly tables: ReadonlyMap<string, number>
  /** Whether it found a memory attributes table that it could not make sense of. */
  readonly refusesAttributesTable: boolean
  /** Bytes of its own code and data, without what is left between them; undefined where the log does not say. */
  readonly imageBytes: number | undefined
  /** Where it put NODE_DATA, the first that it allocates, physical bytes, `end` exclusive. */
  readonly nodeData: readonly ObservedRange[]
  /** The setup_data nodes that it keeps, physical bytes, `end` exclusive. */
  readonly setupData: readonly ObservedRange[]
  /** The e820 map as the loader gave it; undefined where it was not printed. */
  readonly biosE820: readonly ObservedE820Entry[] | undefined
  /** Words of the command line that it does not know and passes on to user space. */
  readonly unknownParameters: readonly string[]
  /** Whether it started its first process. */
  readonly startedInit: boolean
  /** How it ended, as far as the log goes. */
  readonly ending: KernelEnding
  /** How it had got through its boot, when it started the first process; the same where the log does not say when that was. */
  readonly bootEnding: KernelEnding
}

/** How far a boot of Linux has come: the last of these functions that it is known to have entered. */
export type BootMilestone = 'setup_arch' | 'efi_init' | 'mm_init' | 'vfs_caches_init'

/** How a kernel ended. */
export interface KernelEnding {
  /** How far it came, by what it prints on the way. */
  readonly reached: BootMilestone
  /** The panic's words; undefined where there was none. */
  readonly panic: string | undefined
  /** Vector of the first exception that kernel code died of; undefined where there was none, as in a panic of the kernel's own and after BUG(). */
  readonly exception: number | undefined
  /** Whether it registered the EFI variable services. */
  readonly runtimeServices: boolean
  /** The status that SetVirtualAddressMap failed with. */
  readonly svamStatus: bigint | undefined
  /** Physical addresses at which firmware faulted while the kernel went on, each once. */
  readonly survivedFaults: readonly number[]
  /** Services after which the interrupt flag was wrong, in kernel spelling, each once; from Linux 6.12 on the functions that called them. */
  readonly flagsCorruptedBy: readonly string[]
  /** The first line of an oops; undefined where there was none. */
  readonly oops: string | undefined
  /** Whether it stopped because it was told to: it powered off, restarted, or started another kernel. */
  readonly stopped: boolean
}

/**
 * What is printed right before efi_init() (setup_arch(), arch/x86/kernel/setup.c: x86_report_nx()), right before mm_init() (start_kernel(), init/main.c), and in vfs_caches_init(), the first
 * function to say something after efi_enter_virtual_mode().
 */
const MILESTONES: readonly (readonly [BootMilestone, RegExp])[] = [
  ['vfs_caches_init', /^Mount-cache hash table entries/],
  ['mm_init', /^Kernel command line:/],
  ['efi_init', /^NX \(Execute Disable\) protection/],
]

/** The first line that an exception in kernel code prints, and its vector (arch/x86/kernel/traps.c, arch/x86/mm/fault.c). Up to Linux 6.8 "Oops: " is not before all of them. */
const EXCEPTIONS: readonly (readonly [RegExp, number])[] = [
  [/^(?:Oops: )?divide error:/, 0],
  [/^(?:Oops: )?invalid opcode:/, 6],
  [/^BUG: \w+ stack guard page was hit|^(?:traps: )?PANIC: double fault/, 8],
  [/^(?:Oops: )?stack segment:/, 12],
  [/^(?:Oops: )?general protection fault\b/, 13],
  [/^BUG: (?:unable to handle|kernel NULL pointer dereference)/, 14],
  [/^traps: Missing ENDBR|^(?:Oops: )?control protection fault/i, 21],
]
/** Before there are handlers (early_fixup_exception(), arch/x86/mm/extable.c). */
const EARLY_EXCEPTION = /^PANIC: (early exception 0x([\da-f]+))/

const BANNER = /^Linux version (\S+)/

/** The kernels whose logs follow one another in a text. Throws INTAKE_INCOMPLETE where it has not even one kernel's banner. */
export function readKernelLogs(file: string, lines: readonly SourceLine[]): KernelLog[] {
  const starts = lines.flatMap(({ text }, index) => (BANNER.test(text) ? [index] : []))
  if (starts.length === 0) {
    throw new IntakeError('INTAKE_INCOMPLETE', {
      file,
      line: 1,
      expected: 'a kernel’s log from its first line, "Linux version …"',
      found: `${lines.length} lines without it`,
    })
  }
  return starts.map((start, index) => readKernelLog(lines.slice(start, starts[index + 1])))
}

function readKernelLog(lines: readonly SourceLine[]): KernelLog {
  const text = lines.map((line) => line.text)
  const first = (pattern: RegExp): string | undefined => {
    for (const line of text) {
      const match = pattern.exec(line)
      if (match !== null) return match[1]
    }
    return undefined
  }
  const initrd = text.map((line) => /RAMDISK: \[mem (0x[\da-f]+)-(0x[\da-f]+)\]/.exec(line))
  const [, start, last] = initrd.find((match) => match !== null) ?? []
  const init = text.findIndex((line) => /^Run \S+ as init process/.test(line))
  return {
    version: first(BANNER)!,
    commandLine: first(/^Command line: (.*)$/)?.trim() ?? '',
    initrd:
      start === undefined || last === undefined
        ? undefined
        : { start: Number(start), end: Number(last) + 1 },
    tables: readTables(text.find((line) => /^efi: .*\b(?:ACPI|SMBIOS)[^=]*=0x/.test(line)) ?? ''),
    refusesAttributesTable:
      first(/(Unexpected EFI Memory Attributes table version|Corrupted EFI Memory Attributes)/) !==
      undefined,
    imageBytes: readImageBytes(text),
    nodeData: text.flatMap((line) => {
      const [, begin, end] =
        /^NODE_DATA\(\d+\) allocated \[mem (0x[\da-f]+)-(0x[\da-f]+)\]/.exec(line) ?? []
      return begin === undefined || end === undefined
        ? []
        : [{ start: Number(begin), end: Number(end) + 1 }]
    }),
    setupData: readSetupData(text),
    biosE820: readBiosE820(text),
    unknownParameters:
      first(/^Unknown kernel command line parameters "(.*)", will be passed/)?.split(/\s+/) ?? [],
    startedInit: init !== -1,
    ending: endingOf(text),
    bootEnding: endingOf(init === -1 ? text : text.slice(0, init)),
  }
}

function endingOf(text: readonly string[]): KernelEnding {
  const all = (pattern: RegExp): string[] => [
    ...new Set(text.flatMap((line) => pattern.exec(line)?.[1] ?? [])),
  ]
  const [status] = all(/Unable to switch EFI into virtual mode \(status=([\da-f]+)\)/)
  return {
    reached: milestoneOf(text),
    panic: all(/Kernel panic - not syncing: (.*)$/)[0] ?? all(EARLY_EXCEPTION)[0],
    exception: exceptionOf(text),
    runtimeServices: all(/(Registered efivars operations)/).length > 0,
    svamStatus: status === undefined ? undefined : BigInt(`0x${status}`),
    survivedFaults: all(/Page fault caused by firmware at PA: (0x[\da-f]+)/).map(Number),
    flagsCorruptedBy: all(/IRQ flags corrupted \([^)]*\) by EFI (?:call from )?(\S+)/),
    oops: all(/^((?:Oops: )?[\w ]+: [\da-f]{4} \[#\d+\])/)[0],
    stopped: all(/(reboot: (?:Power down|Restarting)|Starting new kernel)/).length > 0,
  }
}

function milestoneOf(text: readonly string[]): BootMilestone {
  const last = MILESTONES.find(([, pattern]) => text.some((line) => pattern.test(line)))
  return last === undefined ? 'setup_arch' : last[0]
}

/** Whatever comes first decides; after "kernel BUG at" an invalid opcode is the kernel's own doing (BUG()). */
function exceptionOf(text: readonly string[]): number | undefined {
  for (const line of text) {
    if (line.startsWith('kernel BUG at ')) return undefined
    const early = EARLY_EXCEPTION.exec(line)
    if (early !== null) return Number(`0x${early[2]!}`)
    const found = EXCEPTIONS.find(([pattern]) => pattern.test(line))
    if (found !== undefined) return found[1]
  }
  return undefined
}

/** What mem_init_print_info() adds up in "Memory: 206580K/1041972K available (14343K kernel code, 2327K rwdata, 8348K rodata, 2612K init, 5436K bss, …". */
function readImageBytes(text: readonly string[]): number | undefined {
  const parts =
    /^Memory: .*\((\d+)K kernel code, (\d+)K rwdata, (\d+)K rodata, (\d+)K init, (\d+)K bss/
  const found = text.map((line) => parts.exec(line)).find((match) => match !== null)
  return found?.slice(1).reduce((sum, kibibytes) => sum + Number(kibibytes) * 1024, 0)
}

/** What efi_config_init() prints in one line, such as "efi: SMBIOS=0x3f520000 ACPI=0x3f77d000 ACPI 2.0=0x3f77d014". */
function readTables(line: string): Map<string, number> {
  const tables = line.replace(/^efi: /, '').matchAll(/\s*([^=]+?)=(0x[\da-f]+)/g)
  return new Map(Array.from(tables, ([, name, address]) => [name!, Number(address)]))
}

/** e820__reserve_setup_data() gives RAM a type that prints as RAM: "e820: update [mem 0x…-0x…] usable ==> usable". */
function readSetupData(texts: readonly string[]): ObservedRange[] {
  const ranges = new Map<number, ObservedRange>()
  for (const text of texts) {
    const [, start, last] =
      /^e820: update \[mem (0x[\da-f]+)-(0x[\da-f]+)\] usable ==> usable/.exec(text) ?? []
    if (start === undefined || last === undefined) continue
    ranges.set(Number(start), { start: Number(start), end: Number(last) + 1 })
  }
  return [...ranges.values()]
}
