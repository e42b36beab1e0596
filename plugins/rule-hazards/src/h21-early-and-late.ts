import type { Rule } from '@trapdoor/harness'
import { efiStatusName, type RuntimeServiceName } from '@trapdoor/uefi'

/** Services that change nothing, so that a later call of theirs has to end as an earlier one did. */
const READ_ONLY: ReadonlySet<RuntimeServiceName> = new Set([
  'GetTime',
  'GetNextVariableName',
  'QueryVariableInfo',
])

/** The way in which firmware is called must not show in what it answers. */
export const h21EarlyAndLate: Rule = {
  id: 'H21',
  title: 'A service answers otherwise once the runtime services are set up',
  severity: 'error',
  advice:
    'call firmware in the same way early and late, on one identity map from the early allocator',
  sources: [
    'Eric W. Biederman, replies to "EFI: run EFI in physical mode", LKML, August 2010: one path for early and late calls',
  ],
  rewindable: true,
  watch: ({ hooks, report, perKernel }) => {
    const early = perKernel({
      initial: () => new Map<RuntimeServiceName, bigint>(),
      copy: (answers) => new Map(answers),
    })
    hooks.callLeft.tap('H21', (call) => {
      const { kernel, service, status } = call
      if (!READ_ONLY.has(service)) return
      const answers = early(kernel)
      if (kernel.phase !== 'running') {
        answers.set(service, status)
        return
      }
      const before = answers.get(service)
      if (before === undefined || before === status) return
      report(kernel, {
        message: `${service} answered ${efiStatusName(before)} before the runtime services were set up, and ${efiStatusName(status)} after`,
        explanation:
          'Early calls and later ones go different ways into firmware, and the difference is visible: in addresses that firmware was not told, or memory that only one of the two maps.',
        outcome: 'degraded',
        call,
      })
      answers.delete(service)
    })
  },
}
