import { definePlugin, type Plugin } from '@trapdoor/harness'
import { qviCrashApple } from './q62-qvi-crash-apple.ts'
import { qviCrashHp } from './q63-qvi-crash-hp.ts'
import { gnvnLoop } from './q64-gnvn-loop.ts'
import { gettimeLie } from './q67-gettime-lie.ts'
import { resetBroken } from './q69-reset-broken.ts'
import { systabRev } from './q78-systab-rev.ts'
import { debugPrintAtRt } from './q80-debug-print-at-rt.ts'

export { debugPrintAtRt, gettimeLie, gnvnLoop, qviCrashApple, qviCrashHp, resetBroken, systabRev }

const plugin: Plugin = definePlugin({
  name: '@trapdoor/firmware-services',
  apiVersion: 1,
  quirks: [qviCrashApple, qviCrashHp, gnvnLoop, gettimeLie, resetBroken, systabRev, debugPrintAtRt],
})

export default plugin
