import { definePlugin, type Plugin } from '@trapdoor/harness'
import { bootServicesRetained, identityBesideDirectMap } from './boot-services-retained.ts'
import { earlyPhysical } from './early-physical.ts'
import { legacyVirtual } from './legacy-virtual.ts'

export { retainBootServices } from './boot-services-retained.ts'
export { enterVirtualMode, legacyVirtual } from './legacy-virtual.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/strategy-legacy-virtual',
  apiVersion: 1,
  strategies: [earlyPhysical, legacyVirtual, bootServicesRetained, identityBesideDirectMap],
})

export default plugin
