import { definePlugin, type Plugin } from '@trapdoor/harness'
import { globalIdentityMap } from './global-identity-map.ts'

export { globalIdentityMap } from './global-identity-map.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/strategy-global-identity-map',
  apiVersion: 1,
  strategies: [globalIdentityMap],
})

export default plugin
