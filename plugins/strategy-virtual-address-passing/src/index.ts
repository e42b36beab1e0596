import { definePlugin, type Plugin } from '@trapdoor/harness'
import { regionAddresses } from './region-addresses.ts'
import { virtualAddressPassing } from './virtual-address-passing.ts'

export { virtualAddressPassing } from './virtual-address-passing.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/strategy-virtual-address-passing',
  apiVersion: 1,
  strategies: [virtualAddressPassing, regionAddresses],
})

export default plugin
