import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import {
  type CaseEnvironment,
  createEnvironment,
  findCase,
  loadConfig,
  planCases,
  runCase,
} from '@trapdoor/harness'
import { beforeAll, describe, expect, test } from 'vitest'

const SNAPSHOTS = join(import.meta.dirname, '../../../shared/data/observed/snapshots')
const BUILDS = ['pc-2M-512M'].filter((name) => existsSync(join(SNAPSHOTS, name)))

let environment: CaseEnvironment

/** How a case on a recorded firmware ends. */
function resultOf(id: string): ReturnType<typeof runCase> {
  return runCase(environment, findCase(environment.config, id))
}

describe.skipIf(BUILDS.length === 0)('OVMF (skipped where the shared data is absent)', () => {
  beforeAll(async () => {
    const config = await loadConfig({
      directory: SNAPSHOTS,
      builtIn: BUILT_IN_PLUGINS,
      overrides: { snapshots: BUILDS },
    })
    environment = createEnvironment(config)
  })

  test(
    'does all that its services are for under every strategy that maps its flash',
    { timeout: 120_000 },
    () => {
      const cases = planCases(environment.config, {
        firmware: ['none'],
        scenarios: ['boot', 'services', 'variables', 'suspend', 'reboot'],
      }).filter(({ strategy }) => strategy.name !== 'early-physical')
      expect(cases.length).toBeGreaterThan(100)
      const wrong = cases
        .map((spec) => runCase(environment, spec))
        .filter(({ outcome }) => outcome !== 'ok')
      expect(wrong.map(({ id, outcome }) => [id, outcome])).toEqual([])
    },
  )

  test('finds no flash where memory is an alias of the direct map, which has none', () => {
    const { outcome, findings } = resultOf('pc-2M-512M/none/early-physical/boot')
    expect([outcome, findings[0]?.rule]).toEqual(['fault', 'H19'])
    expect(findings[0]?.message).toContain('touches 0x00000000ffe039f8 inside SetVariable')
  })

  test('has no capsules, and says so', () => {
    const { services } = resultOf('pc-2M-512M/none/linux-6.1/services')
    const capsules = services.filter(({ name }) => name.includes('Capsule'))
    expect(capsules.map(({ status }) => status)).toEqual(['EFI_UNSUPPORTED', 'EFI_UNSUPPORTED'])
  })

  test('has converted its system table when the next kernel of a strategy like 2.6.26 reads it', () => {
    const { outcome, findings } = resultOf('pc-2M-512M/none/legacy-virtual/kexec')
    expect([outcome, findings[0]?.rule]).toEqual(['fault', 'H8'])
    expect(resultOf('pc-2M-512M/none/private-efi-pgd/kexec').outcome).toBe('ok')
    expect(resultOf('pc-2M-512M/none/linux-6.1/kexec').outcome).toBe('ok')
  })

  test('has quirks on top, and findings name its images', () => {
    const { outcome, findings } = resultOf('pc-2M-512M/Q22/linux-6.1/boot')
    expect(outcome).toBe('fault')
    expect(findings[0]?.message).toContain('VariableRuntimeDxe touches')
    expect(findings[0]?.message).toContain('inside SetVariable')
  })

  test('survives crashes at hundreds of moments of its SetVariable', { timeout: 60_000 }, () => {
    const { outcome, services } = resultOf('pc-2M-512M/none/linux-6.1/kdump-everywhere')
    expect(outcome).toBe('ok')
    const kernels = services.find(({ name }) => name === 'crash kernels')
    expect(kernels?.status).toMatch(/^\d{3} booted, for \d{6} states of memory$/)
  })
})
