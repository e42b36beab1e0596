import { definePlugin, type Plugin } from '@trapdoor/harness'
import type { StrategyDefinition } from '@trapdoor/kernel'
import { Switched } from './switched.ts'
import { type Positions, SWITCHES } from './switches.ts'

/** The thirty-first strategy: whatever its options make of it. */
const switches: StrategyDefinition = {
  name: 'switches',
  title: 'built from switches: every choice in which strategies differ is an option',
  mode: 'virtual',
  rewindable: true,
  sources: ['what Linux, Xen, ESXi and the BSDs do differently, one option each'],
  options: { ...SWITCHES },
  // The harness has checked that every option has one of its values.
  create: (options) => new Switched(options as unknown as Positions),
}

const plugin: Plugin = definePlugin({
  name: '@trapdoor/strategy-switches',
  apiVersion: 1,
  strategies: [switches],
})

export default plugin
