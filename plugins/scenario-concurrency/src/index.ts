import { definePlugin, type Plugin } from '@trapdoor/harness'
import { interleavings, interleavingsOfFour } from './interleavings.ts'
import { interrupts } from './interrupts.ts'
import { preemption } from './preemption.ts'
import { trapHandler } from './trap-handler.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/scenario-concurrency',
  apiVersion: 1,
  scenarios: [trapHandler, interrupts, preemption, interleavings, interleavingsOfFour],
})

export default plugin
