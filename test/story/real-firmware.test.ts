import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import badDrivers from '@trapdoor/firmware-bad-drivers'
import {
  type CaseEnvironment,
  createEnvironment,
  findCase,
  loadConfig,
  planCases,
  type Plugin,
  runCase,
} from '@trapdoor/harness'
import { beforeAll, describe, expect, test } from 'vitest'
import { play } from './cases.ts'

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
      builtIn: [...BUILT_IN_PLUGINS, badDrivers],
      overrides: { snapshots: BUILDS },
    })
    environment = createEnvironment(config)
  })

  test('loads a driver that knows where it is after SetVirtualAddressMap', () => {
    for (const strategy of ['legacy-virtual', 'linux-6.1', 'xen']) {
      expect(resultOf(`pc-2M-512M/D0/${strategy}/services`).outcome).toBe('ok')
      const { outcome, findings } = resultOf(`pc-2M-512M/D20/${strategy}/services`)
      expect([outcome, findings[0]?.rule, findings[0]?.actor]).toEqual([
        'fault',
        'EXC',
        'BadRuntimeDriver',
      ])
      expect(findings[0]?.message).toMatch(/no instruction at 0x\w+: 0f 0b/)
      expect(findings[0]?.instruction).toMatch(/ \(BadRuntimeDriver\+0x800\)$/)
    }
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
      // Its one efi_scratch is for all CPUs, and a clock and a variable have other locks. Its images have their data in regions of code, which efi_init() of xnu maps read-only.
      expect(wrong.map(({ id, outcome }) => [id, outcome])).toEqual([
        ['pc-2M-512M/none/linux-3.14/services', 'corrupt'],
        ['pc-2M-512M/none/macos/services', 'fault'],
        ['pc-2M-512M/none/macos/reboot', 'fault'],
      ])
    },
  )

  test('finds no flash where memory is an alias of the direct map, which has none', () => {
    const { outcome, findings } = resultOf('pc-2M-512M/none/early-physical/boot')
    expect([outcome, findings[0]?.rule]).toEqual(['fault', 'H19'])
    expect(findings[0]?.message).toContain('touches 0x00000000ffe039f8 inside SetVariable')
    expect(findings[0]?.instruction).toMatch(/^0x[\da-f]{16} \(image at 0x1fae8000\+0x[\da-f]+\)$/)
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

  test('hangs where a patched instruction jumps to itself, and the finding says in which image', async () => {
    const patched: Plugin = {
      name: 'patched',
      apiVersion: 1,
      quirks: [
        {
          id: 'LOOP',
          name: 'get-time-loops',
          title: 'GetTime begins with a jump to itself',
          sources: ['this test'],
          hooks: {
            powerOn: (setup) => {
              const entry = setup.replaceService('GetTime', 0)
              setup.replaceService('GetTime', entry)
              setup.write(entry, Uint8Array.of(0xeb, 0xfe))
            },
          },
        },
      ],
    }
    const config = await loadConfig({
      directory: SNAPSHOTS,
      builtIn: [...BUILT_IN_PLUGINS, patched],
      overrides: { snapshots: BUILDS, instructionLimit: 5_000_000 },
    })
    const looping = createEnvironment(config)
    const id = 'pc-2M-512M/LOOP/private-efi-pgd/boot'
    const { outcome, reason, findings } = runCase(looping, findCase(config, id))
    const { rule, service, actor, access, physical, reproduce } = findings[0]!
    expect(outcome).toBe('hang')
    expect(reason).toMatch(
      /^GetTime does not return: PcRtc\w* goes on and on, after 5,000,000 instructions at 0x/,
    )
    expect([rule, service, access?.kind]).toEqual(['endless', 'GetTime', 'execute'])
    expect(actor).toMatch(/^PcRtc/)
    expect(reason.endsWith(access!.address)).toBe(true)
    expect(physical).toMatchObject({ address: access!.address, owner: actor })
    expect(reproduce).toContain('--instruction-limit 5000000')
  })

  test('has quirks that stand where a kernel moves runtime memory', () => {
    const { outcome, findings } = resultOf('pc-2M-512M/Q02/macos/boot')
    expect([outcome, findings[0]?.rule]).toEqual(['fault', 'H18'])
    expect(findings[0]?.message).toContain('VariableRuntimeDxe uses BootServicesData')
  })

  test('is named where its first instruction cannot be fetched', () => {
    const { outcome, findings } = resultOf('pc-2M-512M/Q20/private-efi-pgd/boot')
    expect([outcome, findings[0]?.rule]).toEqual(['fault', 'H19'])
    expect(findings[0]?.message).toMatch(/^the call of PcRtc touches 0x\w+ inside GetTime, /)
  })

  test('cannot read arguments behind a root entry that came after the tables of the 2010 patch were made, and modelled firmware cannot either', () => {
    // Both strategies copy the kernel half once, when they are set up.
    for (const strategy of ['private-efi-pgd', 'global-identity-map']) {
      const { outcome, findings } = resultOf(`pc-2M-512M/none/${strategy}/growth`)
      expect([outcome, findings[0]?.rule]).toEqual(['fault', 'H16'])
      const modelled = play(`none/${strategy}/growth`).result
      expect(findings[0]?.access?.address).toBe(modelled.findings[0]?.access?.address)
      // A firmware that hands over in the state that UEFI asks for is called in it.
      expect(findings.map(({ rule }) => rule)).not.toContain('H14')
    }
    expect(resultOf('pc-2M-512M/none/linux-6.1/growth').outcome).toBe('ok')
  })

  test('survives crashes at hundreds of moments of its SetVariable', () => {
    const { outcome, services } = resultOf('pc-2M-512M/none/linux-6.1/kdump-everywhere')
    expect(outcome).toBe('ok')
    const kernels = services.find(({ name }) => name === 'crash kernels')
    expect(kernels?.status).toMatch(/^\d{3} booted, for \d{6} states of memory; 0 died$/)
  })
})
