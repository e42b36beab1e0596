import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readObservedSnapshot } from '@trapdoor/snapshot'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { IS_INSTALLED, NEEDS, ovmf, snapshotOf } from './firmwares.ts'
import { NEEDS_OBSERVED } from './observed.ts'

/** A runtime driver that misbehaves, as source. */
const DRIVER = join(import.meta.dirname, '../../../shared/data/observed/bad-drivers')
const HEADERS = '/usr/include/efi'

const COMPILER_OPTIONS = [
  [`-I${HEADERS}`, `-I${HEADERS}/x86_64`],
  ['-DGNU_EFI_USE_MS_ABI', '-DHAVE_USE_MS_ABI'],
  ['-O1', '-fpic', '-fshort-wchar', '-fno-stack-protector', '-mno-red-zone', '-ffreestanding'],
  ['-mno-sse', '-maccumulate-outgoing-args', '-fcf-protection=none', '-w'],
].flat()

let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'trapdoor-drivers-'))
})

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

/** Compiles the driver with one of its faults into a PE image. */
async function buildDriver(quirk: number): Promise<string> {
  const at = (ending: string): string => join(folder, `driver-${quirk}.${ending}`)
  await execa('gcc', [
    ...COMPILER_OPTIONS,
    `-DQUIRK=${quirk}`,
    '-c',
    join(DRIVER, 'driver.c'),
    '-o',
    at('o'),
  ])
  const linked = ['-nostdlib', '-znocombreloc', '-shared', '-Bsymbolic']
  await execa('ld', [...linked, '-T', join(DRIVER, 'driver.lds'), at('o'), '-o', at('so')])
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

describe.skipIf(!IS_INSTALLED || !existsSync(DRIVER) || !existsSync(`${HEADERS}/efi.h`))(
  `a driver that the shell loads first (${NEEDS}; ${NEEDS_OBSERVED}; skipped without gnu-efi)`,
  () => {
    test('is captured with the firmware, and has its services in place of the firmware’s', async () => {
      const driver = await buildDriver(1)
      const firmware = { board: 'pc' as const, firmware: ovmf('OVMF_CODE.fd') }
      const [plain, hooked] = [
        await snapshotOf(firmware),
        await snapshotOf({ ...firmware, drivers: [driver] }),
      ].map(servicesOf)
      expect(hooked!.provenance.drivers).toMatchObject([{ name: 'driver-1.efi' }])
      const changed = Object.keys(plain!.services).filter(
        (name) => plain!.services[name] !== hooked!.services[name],
      )
      expect(changed).toEqual(['SetVariable', 'QueryVariableInfo'])
      // Both lie in runtime code that the snapshot holds: the driver's own image.
      const { pages } = readObservedSnapshot(hooked!.path)
      for (const name of changed) {
        const address = Number(hooked!.services[name])
        const run = pages.find(
          (each) => each.address <= address && address < each.address + each.bytes.length,
        )!
        const code = run.bytes.subarray(address - run.address).subarray(0, 16)
        expect(Buffer.from(readFileSync(driver)).includes(Buffer.from(code))).toBe(true)
      }
    })
  },
)

interface Services {
  readonly path: string
  readonly provenance: { readonly drivers: readonly { readonly name: string }[] }
  readonly services: Readonly<Record<string, string>>
}

function servicesOf(path: string): Services {
  const { provenance, runtime_services_handoff: services } = JSON.parse(
    readFileSync(join(path, 'snapshot.json'), 'utf8'),
  ) as { provenance: Services['provenance']; runtime_services_handoff: Services['services'] }
  return { path, provenance, services }
}
