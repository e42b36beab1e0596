import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readObservedSnapshot } from '@trapdoor/snapshot'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buildDriver, CAN_COMPILE, NEEDS_COMPILER } from './bad-driver.ts'
import { IS_INSTALLED, NEEDS, ovmf, snapshotOf } from './firmwares.ts'

let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'trapdoor-drivers-'))
})

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

describe.skipIf(!IS_INSTALLED || !CAN_COMPILE)(
  `a driver that the shell loads first (${NEEDS}; ${NEEDS_COMPILER})`,
  () => {
    test('is captured with the firmware, and has its services in place of the firmware’s', async () => {
      const driver = await buildDriver('1', folder)
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
