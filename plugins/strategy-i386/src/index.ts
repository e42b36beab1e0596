import { definePlugin, type Plugin } from '@trapdoor/harness'
import { i386LegacyVirtual } from './legacy-virtual.ts'
import { i386Linux318 } from './linux-3-18.ts'
import { i386Linux34 } from './linux-3-4.ts'
import { i386PagingOff } from './paging-off.ts'
import { i386PrivateEfiPgd } from './private-efi-pgd.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/strategy-i386',
  apiVersion: 1,
  strategies: [i386LegacyVirtual, i386Linux34, i386Linux318, i386PagingOff, i386PrivateEfiPgd],
})

export default plugin
