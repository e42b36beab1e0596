import { definePlugin, type Plugin } from '@trapdoor/harness'
import { arm64 } from './arm64.ts'
import { constantOffset } from './constant-offset.ts'
import { esxi } from './esxi.ts'
import { freebsd } from './freebsd.ts'
import { macos } from './macos.ts'
import { netbsd } from './netbsd.ts'
import { openbsd } from './openbsd.ts'
import { windows } from './windows.ts'
import { xen } from './xen.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/strategy-other-systems',
  apiVersion: 1,
  strategies: [xen, esxi, freebsd, openbsd, netbsd, macos, windows, constantOffset, arm64],
})

export default plugin
