import {
  type CaseResult,
  countOutcomes,
  type Finding,
  firmwareLabel,
  type Outcome,
  type Results,
} from '@trapdoor/harness'

const finding: Finding = {
  rule: 'H9',
  severity: 'error',
  outcome: 'fault',
  title: 'Tables of the kernel before',
  message: 'The second kernel took a converted pointer for a physical address.',
  kernel: 'second kernel',
  phase: 'efi_init',
  service: null,
  actor: 'kernel',
  access: { kind: 'read', address: '0xffff88001f9ee018', errorCode: 'not present' },
  walk: [],
  physical: null,
  explanation: 'It was converted for good.',
  advice: 'Pass the map on.',
  sources: ['UEFI 2.10, 8.4'],
  reproduce: 'trapdoor explain pc/none/legacy-virtual/kexec',
}

/** What the sample's cells end in; those that are not here are ok. */
function ending(
  map: string,
  firmware: string,
  strategy: string,
  scenario: string,
): [Outcome, string] {
  if (strategy === 'legacy-virtual' && scenario === 'kexec') {
    const address = map === 'pc' ? '0xffff88001f9ee018' : '0xffff88007f9ee018'
    return ['fault', `the second kernel reads the system table at ${address}`]
  }
  if (firmware === 'Q01' && strategy === 'private-efi-pgd' && map !== 'server') {
    return ['corrupt', 'VariableRuntimeDxe wrote into a page that the kernel had given away']
  }
  return ['ok', 'every service answered']
}

/** Two maps with the same outcomes and one without, two firmware variants, these strategies, two scenarios. */
export function sampleResults(
  strategies: readonly string[] = ['legacy-virtual', 'private-efi-pgd'],
): Results {
  const cases: CaseResult[] = []
  for (const memoryMap of ['pc', 'q35', 'server']) {
    for (const quirks of [[], ['Q01']]) {
      for (const strategy of strategies) {
        for (const scenario of ['boot', 'kexec']) {
          const firmware = firmwareLabel(quirks)
          const [outcome, reason] = ending(memoryMap, firmware, strategy, scenario)
          cases.push({
            id: `${memoryMap}/${firmware}/${strategy}/${scenario}`,
            memoryMap,
            quirks,
            strategy,
            kernel: { profile: '2.6.35', commandLine: '', ran: [strategy] },
            scenario,
            seed: 1,
            outcome,
            reason,
            findings: outcome === 'fault' ? [finding] : [],
            services: [],
            cost: null,
          })
        }
      }
    }
  }
  return {
    schemaVersion: 1,
    tool: { name: 'trapdoor', version: '0.1.0' },
    seed: 1,
    memoryMaps: ['pc', 'q35', 'server'].map((id) => ({
      id,
      file: `${id}.txt`,
      format: 'linux_type',
      descriptors: 20,
      runtimeDescriptors: 5,
      bytesOfRam: 512 * 2 ** 20,
      warnings: [],
    })),
    legend: {
      quirks: [
        { id: 'Q01', name: 'boot-services-later', title: 'Uses boot services memory later' },
      ],
      strategies: strategies.map((name) => ({ name, title: `Strategy ${name}` })),
      scenarios: [
        { name: 'boot', title: 'Boots' },
        { name: 'kexec', title: 'Boots twice' },
      ],
    },
    cases,
    totals: countOutcomes(cases),
  }
}
