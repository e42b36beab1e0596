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
  /** `no5lvl`: four levels of paging on a CPU that has five. */
  readonly no5lvl: boolean
  /** `maxcpus=N`: CPUs that are brought up at boot, Infinity where it is not there. */
  readonly maxCpus: number
  /** `crashkernel=SIZE[KMG]`: bytes to reserve for a kdump kernel, 0 for none. */
  readonly crashKernelBytes: number
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }

/**
 * Parses a kernel command line; words that are not about EFI or kdump are kept in `text` and otherwise ignored, as kernels do.
 * Throws KERNEL_BAD_COMMAND_LINE on a value that cannot be read.
 */
export function parseCommandLine(text: string): CommandLine {
  const words = text.split(/\s+/).filter((word) => word !== '')
  const maxCpus = words.findLast((word) => /^maxcpus=\d+$/.test(word))
  const crash = words.findLast((word) => word.startsWith('crashkernel='))
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
    nokaslr: words.includes('nokaslr'),
    no5lvl: words.includes('no5lvl'),
    // `maxcpus=0` means the boot CPU alone, too.
    maxCpus: maxCpus === undefined ? Infinity : Math.max(1, Number(maxCpus.slice(8))),
    crashKernelBytes: crash === undefined ? 0 : parseSize(crash),
  }
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

function parseSize(word: string): number {
  const match = /^crashkernel=(\d+)([KMG]?)$/i.exec(word)
  if (match === null) {
    throw new KernelError('KERNEL_BAD_COMMAND_LINE', {
      expected: 'crashkernel= with a size such as 128M',
      found: word,
      hint: 'an offset is not modelled: the kernel picks the place',
    })
  }
  return Number(match[1]) * UNITS[(match[2] ?? '').toUpperCase()]!
}
