import { definePlugin, type Plugin } from '@trapdoor/harness'
import { boot } from './boot.ts'
import { interleavings, interleavingsOfFour } from './interleavings.ts'
import { kdump } from './kdump.ts'
import { kexec, kexecOther } from './kexec.ts'
import { services } from './services.ts'
import { trapHandler } from './trap-handler.ts'
import { variables } from './variables.ts'

export { boot } from './boot.ts'
export { interleavings, interleavingsOfFour } from './interleavings.ts'
export { kdump } from './kdump.ts'
export { kexec, kexecOther } from './kexec.ts'
export { services } from './services.ts'
export { trapHandler } from './trap-handler.ts'
export { variables } from './variables.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/scenario-lifecycle',
  apiVersion: 1,
  scenarios: [
    boot,
    services,
    kexec,
    kexecOther,
    kdump,
    trapHandler,
    variables,
    interleavings,
    interleavingsOfFour,
  ],
})

export default plugin
