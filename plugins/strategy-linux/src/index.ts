import { definePlugin, type Plugin } from '@trapdoor/harness'
import { mixed315, mixed49, mixed56, mixed61 } from './mx-mixed.ts'
import { topDownForward } from './t1-top-down-forward.ts'
import { topDownReverse } from './t2-top-down-reverse.ts'
import { ownPgd } from './t3-own-pgd.ts'
import { efiMm } from './t4-efi-mm.ts'
import { hardened, modern } from './t5-modern.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/strategy-linux',
  apiVersion: 1,
  strategies: [
    topDownForward,
    topDownReverse,
    ownPgd,
    efiMm,
    modern,
    hardened,
    mixed315,
    mixed49,
    mixed56,
    mixed61,
  ],
})

export default plugin
