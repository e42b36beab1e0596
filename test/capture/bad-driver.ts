import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { SHARED_DRIVER } from '../story/observed-drivers.ts'

/** Debian's gnu-efi. */
const HEADERS = '/usr/include/efi'

/** Why the tests that compile the driver are skipped, for their names. */
export const NEEDS_COMPILER = 'skipped where the shared data or gnu-efi is absent'

/** Whether the driver can be compiled. */
export const CAN_COMPILE: boolean = existsSync(SHARED_DRIVER) && existsSync(`${HEADERS}/efi.h`)

const COMPILER_OPTIONS = [
  [`-I${HEADERS}`, `-I${HEADERS}/x86_64`],
  ['-DGNU_EFI_USE_MS_ABI', '-DHAVE_USE_MS_ABI'],
  ['-O1', '-fpic', '-fshort-wchar', '-fno-stack-protector', '-mno-red-zone', '-ffreestanding'],
  ['-mno-sse', '-maccumulate-outgoing-args', '-fcf-protection=none', '-w'],
].flat()

/** What a letter behind the number of a variant defines. */
const DEFINES: Readonly<Record<string, string>> = {
  L: 'LATE',
  p: 'POOL',
  x: 'AS_IS',
  n: 'NOMEMATTR',
}

/** Compiles the driver in a variant, such as "1L", into a PE image in `folder`, as it was for the observed runs. Returns its path. */
export async function buildDriver(variant: string, folder: string): Promise<string> {
  const [, quirk = '', letter = ''] = /^(\d+)(\w?)$/.exec(variant) ?? []
  const at = (ending: string): string => join(folder, `driver-${variant}.${ending}`)
  const defines = [`-DQUIRK=${quirk}`, ...(letter === '' ? [] : [`-D${DEFINES[letter]!}`])]
  const source = join(SHARED_DRIVER, 'driver.c')
  await execa('gcc', [...COMPILER_OPTIONS, ...defines, '-c', source, '-o', at('o')])
  const linked = ['-nostdlib', '-znocombreloc', '-shared', '-Bsymbolic']
  await execa('ld', [...linked, '-T', join(SHARED_DRIVER, 'driver.lds'), at('o'), '-o', at('so')])
  const sections = ['.text', '.data', '.reloc'].flatMap((name) => ['-j', name])
  const alignment = ['--section-alignment=4096', '--file-alignment=512']
  await execa('objcopy', [
    ...sections,
    '--target=efi-rtdrv-x86_64',
    ...alignment,
    at('so'),
    at('efi'),
  ])
  return at('efi')
}
