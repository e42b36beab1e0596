import { definePlugin, type Plugin } from '@trapdoor/harness'
import { boot } from './boot.ts'
import { earlyCall } from './early-call.ts'
import { exitBootServices } from './exit-boot-services.ts'
import { kdump } from './kdump.ts'
import { kdumpEverywhere } from './kdump-everywhere.ts'
import { kexec, kexecOther } from './kexec.ts'
import {
  kexecChainDown,
  kexecChainPhysical,
  kexecChainUp,
  kexecFromNew,
  kexecFromOld,
} from './kexec-chain.ts'
import { services } from './services.ts'
import { variables } from './variables.ts'

export { everydayCalls, KEPT, sameBytes } from './everyday-calls.ts'
export { type ChainedKernel, kexecChain, OWN_KERNEL } from './kexec-chain.ts'
export { bootStep, everydayStep } from './steps.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/scenario-lifecycle',
  apiVersion: 1,
  scenarios: [
    boot,
    earlyCall,
    exitBootServices,
    services,
    kexec,
    kexecOther,
    kexecChainUp,
    kexecChainDown,
    kexecChainPhysical,
    kexecFromOld,
    kexecFromNew,
    kdump,
    kdumpEverywhere,
    variables,
  ],
})

export default plugin
