// A firmware that keeps its variables in system-management mode, on a machine without: its calls are answered with an error, and the kernel lives on.
import { createEnvironment, findCase, loadConfig, runCase } from '@trapdoor/harness'
import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import { describe, expect, test } from 'vitest'
import { IS_INSTALLED, NEEDS, ovmf, snapshotOf } from './firmwares.ts'

describe.skipIf(!IS_INSTALLED)(`OVMF built for SMM (${NEEDS})`, () => {
  test(
    'raises an SMI in SetVariable, which is answered, and found; its clock needs none',
    { timeout: 300_000 },
    async () => {
      const folder = await snapshotOf({ firmware: ovmf('OVMF_CODE_4M.secboot.fd'), memory: 512 })
      const config = await loadConfig({
        directory: import.meta.dirname,
        builtIn: BUILT_IN_PLUGINS,
        overrides: { snapshots: [`smm=${folder}`] },
      })
      const environment = createEnvironment(config)
      for (const strategy of ['linux-6.1', 'private-efi-pgd']) {
        const result = runCase(environment, findCase(config, `smm/none/${strategy}/boot`))
        expect(result.outcome).toBe('degraded')
        expect(result.services).toMatchObject([
          { name: 'GetTime', ok: true },
          { name: 'SetVariable', status: 'EFI_DEVICE_ERROR' },
          { name: 'GetVariable', status: 'EFI_DEVICE_ERROR' },
        ])
        expect(result.findings.find(({ rule }) => rule === 'SMI')).toMatchObject({
          actor: 'SmmControl2Dxe',
          service: 'SetVariable',
        })
      }
    },
  )
})
