import { definePlugin, type Plugin } from '@trapdoor/harness'
import { capsule } from './capsule.ts'
import { hibernate, hibernateDrift } from './hibernate.ts'
import { reboot } from './reboot.ts'
import { suspend } from './suspend.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/scenario-power',
  apiVersion: 1,
  scenarios: [suspend, hibernate, hibernateDrift, reboot, capsule],
})

export default plugin
