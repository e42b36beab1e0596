import type { FakeRange } from '../efi/regions/fake-mem.ts'
import { KernelError } from '../error.ts'

/** The options that kernels from 2.6.35 with the patch on understand, as far as EFI is concerned. */
export interface CommandLine {
  readonly text: string
  /** `noefi`: EFI is not used at all. */
  readonly noefi: boolean
  /** The words of `efi=`, such as `debug` and `noruntime`. */
  readonly efi: ReadonlySet<string>
  /** `virtefi`: SetVirtualAddressMap and virtual mode, as before the patch. */
  readonly virtefi: boolean
  /** `physefi`: firmware stays in physical mode, as in the patch's first version, whose default was the other. */
  readonly physefi: boolean
  /** `add_efi_memmap`: the EFI memory map is added to the e820 map. */
  readonly addEfiMemmap: boolean
  /** `efi_fake_mem=SIZE@START:ATTRIBUTE,…`: attributes that parts of the EFI memory map get. */
  readonly fakeMemory: readonly FakeRange[]
  /** `nokaslr`: nothing is placed at random. */
  readonly nokaslr: boolean
  /** `pti=on`, `pti=off`, `nopti`: whether page tables of processes are kept apart from the kernel's; by default where the CPU needs it. */
  readonly pti: 'auto' | 'on' | 'off'
  /** `no5lvl`: four levels of paging on a CPU that has five. */
  readonly no5lvl: boolean
  /** `maxcpus=N`: CPUs that are brought up at boot, Infinity where it is not there. */
  readonly maxCpus: number
  /** `crashkernel=`: what to reserve for a kdump kernel. */
  readonly crashKernel: CrashKernelRequest | undefined
}

/** What `crashkernel=` asks for, in bytes (parse_crashkernel(), Documentation/admin-guide/kernel-parameters.txt). */
export interface CrashKernelRequest {
  /** The size that a machine with so much RAM gets; `to` is exclusive. */
  readonly sizes: readonly { readonly from: number; readonly to: number; readonly bytes: number }[]
  /** Where it has to be; undefined where the kernel picks the place. */
  readonly at: number | undefined
  /** `SIZE,high`: above 4 GiB where there is room. */
  readonly isHigh: boolean
  /** `SIZE,low`: what is reserved below 4 GiB beside that. */
  readonly lowBytes: number | undefined
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }

/** The words of a command line. */
export function commandLineWords(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '')
}

/**
 * Parses a kernel command line; words that are not about EFI or kdump are kept in `text` and otherwise ignored, as kernels do.
 * Throws KERNEL_BAD_COMMAND_LINE on a value that cannot be read.
 */
export function parseCommandLine(text: string): CommandLine {
  const words = commandLineWords(text)
  const maxCpus = words.findLast((word) => /^maxcpus=\d+$/.test(word))
  return {
    text: words.join(' '),
    noefi: words.includes('noefi'),
    efi: new Set(
      words.filter((word) => word.startsWith('efi=')).flatMap((word) => word.slice(4).split(',')),
    ),
    virtefi: words.includes('virtefi'),
    physefi: words.includes('physefi'),
    addEfiMemmap: words.includes('add_efi_memmap'),
    fakeMemory: words
      .filter((word) => word.startsWith('efi_fake_mem='))
      .flatMap((word) => word.slice(13).split(','))
      .map(parseFakeRange),
    pti: ptiOf(words),
    nokaslr: words.includes('nokaslr'),
    no5lvl: words.includes('no5lvl'),
    // `maxcpus=0` means the boot CPU alone, too.
    maxCpus: maxCpus === undefined ? Infinity : Math.max(1, Number(maxCpus.slice(8))),
    crashKernel: parseCrashKernel(words),
  }
}

/** pti_check_boottime_disable(): `pti=` comes before `nopti`, whichever stands first. */
function ptiOf(words: readonly string[]): CommandLine['pti'] {
  const value = words.findLast((word) => word.startsWith('pti='))?.slice('pti='.length)
  if (value === 'on' || value === 'off' || value === 'auto') return value
  return words.includes('nopti') ? 'off' : 'auto'
}

/** One range of `efi_fake_mem=`, such as "2G@4G:0x10000"; the attribute is in hexadecimal with 0x, else decimal, as kstrtoull() reads it. */
function parseFakeRange(text: string): FakeRange {
  const match = /^(\d+)([KMG]?)@(0x[\da-f]+|\d+)([KMG]?):(0x[\da-f]+|\d+)$/i.exec(text)
  if (match === null) {
    throw new KernelError('KERNEL_BAD_COMMAND_LINE', {
      expected: 'efi_fake_mem= with ranges such as 2G@4G:0x10000',
      found: text,
      hint: 'size, start and attribute, ranges separated by commas',
    })
  }
  const [, size, sizeUnit = '', start, startUnit = '', attribute] = match
  const first = Number(start) * UNITS[startUnit.toUpperCase()]!
  const end = first + Number(size) * UNITS[sizeUnit.toUpperCase()]!
  const page = 4096
  return {
    start: Math.floor(first / page) * page,
    end: Math.ceil(end / page) * page,
    attribute: BigInt(attribute!),
  }
}

/** `crashkernel=SIZE[@OFFSET]`, `RANGE:SIZE[,…][@OFFSET]`, `SIZE,high` and `SIZE,low`, of each kind the last. */
function parseCrashKernel(words: readonly string[]): CrashKernelRequest | undefined {
  const values = words
    .filter((word) => word.startsWith('crashkernel='))
    .map((word) => word.slice('crashkernel='.length))
  const suffixed = (suffix: string): number | undefined => {
    const value = values.findLast((each) => each.endsWith(suffix))
    return value === undefined ? undefined : parseSize(value.slice(0, -suffix.length), value)
  }
  const [high, lowBytes] = [suffixed(',high'), suffixed(',low')]
  const value = values.findLast((each) => !/,(?:high|low)$/.test(each))
  if (value === undefined) {
    if (high === undefined) return undefined
    return {
      sizes: [{ from: 0, to: Infinity, bytes: high }],
      at: undefined,
      isHigh: true,
      lowBytes,
    }
  }
  const [sizes = '', at] = value.split('@', 2)
  return {
    sizes: sizes.includes(':')
      ? sizes.split(',').map((part) => parseSizeForRam(part, value))
      : [{ from: 0, to: Infinity, bytes: parseSize(sizes, value) }],
    at: at === undefined ? undefined : parseSize(at, value),
    isHigh: false,
    lowBytes,
  }
}

/** One part of a list of sizes by RAM, such as "1G-4G:160M" or "4G-:256M". */
function parseSizeForRam(part: string, value: string): CrashKernelRequest['sizes'][number] {
  const [range = '', bytes = ''] = part.split(':', 2)
  const [from = '', to] = range.split('-', 2)
  return {
    from: parseSize(from, value),
    to: to === undefined || to === '' ? Infinity : parseSize(to, value),
    bytes: parseSize(bytes, value),
  }
}

/** A number with a unit, decimal or, with 0x, hexadecimal (memparse()). `value` is what the command line says. */
function parseSize(text: string, value: string): number {
  const match = /^(0x[\da-f]+|\d+)([KMG]?)$/i.exec(text)
  if (match === null) {
    throw new KernelError('KERNEL_BAD_COMMAND_LINE', {
      expected: 'crashkernel= with a size such as 128M, 128M@16M, 256M,high or 1G-4G:160M,4G-:256M',
      found: `crashkernel=${value}`,
      hint: 'sizes are numbers with K, M or G behind them',
    })
  }
  return Number(match[1]) * UNITS[(match[2] ?? '').toUpperCase()]!
}
