import { definePlugin, type Plugin } from '@trapdoor/harness'
import { matWrong } from './q40-mat-wrong.ts'
import { matCorruptSize } from './q41-mat-corrupt-size.ts'
import { rtdataExec } from './q42-rtdata-exec.ts'
import { rtcodeWrite } from './q43-rtcode-write.ts'
import { ifEnabled } from './q44-if-enabled.ts'
import { irqDisabledLeft } from './q45-irq-disabled-left.ts'
import { mxcsrClobber } from './q46-mxcsr-clobber.ts'

export {
  ifEnabled,
  irqDisabledLeft,
  matCorruptSize,
  matWrong,
  mxcsrClobber,
  rtcodeWrite,
  rtdataExec,
}

const plugin: Plugin = definePlugin({
  name: '@trapdoor/firmware-cpu-state',
  apiVersion: 1,
  quirks: [
    matWrong,
    matCorruptSize,
    rtdataExec,
    rtcodeWrite,
    ifEnabled,
    irqDisabledLeft,
    mxcsrClobber,
  ],
})

export default plugin
