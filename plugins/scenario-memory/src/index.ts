import { definePlugin, type Plugin } from '@trapdoor/harness'
import { allocationFailure } from './allocation-failure.ts'
import { growth } from './growth.ts'
import { hotplug } from './hotplug.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/scenario-memory',
  apiVersion: 1,
  scenarios: [hotplug, growth, allocationFailure],
})

export default plugin
