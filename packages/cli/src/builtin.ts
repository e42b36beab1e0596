import firmwareCpuState from '@trapdoor/firmware-cpu-state'
import firmwareMemoryMap from '@trapdoor/firmware-memory-map'
import firmwareServices from '@trapdoor/firmware-services'
import firmwareSvam from '@trapdoor/firmware-svam'
import type { Plugin } from '@trapdoor/harness'
import ruleHazards from '@trapdoor/rule-hazards'
import scenarioConcurrency from '@trapdoor/scenario-concurrency'
import scenarioLifecycle from '@trapdoor/scenario-lifecycle'
import scenarioMemory from '@trapdoor/scenario-memory'
import scenarioPower from '@trapdoor/scenario-power'
import strategyGlobalIdentityMap from '@trapdoor/strategy-global-identity-map'
import strategyI386 from '@trapdoor/strategy-i386'
import strategyLegacyVirtual from '@trapdoor/strategy-legacy-virtual'
import strategyLinux from '@trapdoor/strategy-linux'
import strategyOtherSystems from '@trapdoor/strategy-other-systems'
import strategyPrivateEfiPgd from '@trapdoor/strategy-private-efi-pgd'
import strategySwitches from '@trapdoor/strategy-switches'
import strategyVirtualAddressPassing from '@trapdoor/strategy-virtual-address-passing'

/** The plugins that every run has, in the order of the matrix. */
export const BUILT_IN_PLUGINS: readonly Plugin[] = [
  strategyLegacyVirtual,
  strategyPrivateEfiPgd,
  strategyGlobalIdentityMap,
  strategyVirtualAddressPassing,
  strategyLinux,
  strategyOtherSystems,
  strategySwitches,
  strategyI386,
  firmwareSvam,
  firmwareMemoryMap,
  firmwareCpuState,
  firmwareServices,
  scenarioLifecycle,
  scenarioPower,
  scenarioMemory,
  scenarioConcurrency,
  ruleHazards,
]
