import type { CaseTrace } from '@trapdoor/harness'
import { beforeAll, describe, expect, test } from 'vitest'
import { play } from '../story/cases.ts'
import { IS_INSTALLED, NEEDS, ovmf, snapshotOf } from './firmwares.ts'

/** What each service answered first. */
function answersOf({ result }: CaseTrace): Map<string, string> {
  return new Map(result.services.toReversed().map(({ name, status }) => [name, status] as const))
}

describe.skipIf(!IS_INSTALLED)(
  `a firmware that keeps its variables in system-management mode (${NEEDS})`,
  () => {
    let snapshot = ''
    beforeAll(async () => {
      snapshot = await snapshotOf({ board: 'q35', firmware: ovmf('OVMF_CODE_4M.secboot.fd') })
    })

    test.each(['private-efi-pgd', 'legacy-virtual', 'linux-6.1'])(
      'goes on without them under %s, and that is a finding',
      (strategy) => {
        const trace = play(`none/${strategy}/services`, undefined, { snapshot })
        const { outcome, findings } = trace.result
        expect(outcome).toBe('degraded')
        const smi = findings.find(({ rule }) => rule === 'SMI')
        expect(smi?.message).toMatch(
          /^\w+ writes 0x\w+ to the SMI command port, and is answered EFI_DEVICE_ERROR/,
        )
        expect(smi?.actor).toBe('SmmControl2Dxe')
        const answers = answersOf(trace)
        expect(answers.get('SetVariable')).toBe('EFI_DEVICE_ERROR')
        expect(answers.get('GetTime')).toBe('EFI_SUCCESS')
        // The alarm's date is in a variable.
        expect(answers.get('GetWakeupTime')).toBe('EFI_DEVICE_ERROR')
      },
    )
  },
)
