import { definePlugin, type Plugin } from '@trapdoor/harness'
import { mixed315, mixed46, mixed49, mixed56, mixed61 } from './mx-mixed.ts'
import { linux314 } from './native/linux-3-14.ts'
import { linux318 } from './native/linux-3-18.ts'
import { linux43 } from './native/linux-4-3.ts'
import { linux46 } from './native/linux-4-6.ts'
import { linux49 } from './native/linux-4-9.ts'
import { linux414 } from './native/linux-4-14.ts'
import { linux419 } from './native/linux-4-19.ts'
import { linux54 } from './native/linux-5-4.ts'
import { linux61 } from './native/linux-6-1.ts'
import { linux612 } from './native/linux-6-12.ts'
import { linux71 } from './native/linux-7-1.ts'

const plugin: Plugin = definePlugin({
  name: '@trapdoor/strategy-linux',
  apiVersion: 1,
  strategies: [
    linux314,
    linux318,
    linux43,
    linux46,
    linux49,
    linux414,
    linux419,
    linux54,
    linux61,
    linux612,
    linux71,
    mixed315,
    mixed46,
    mixed49,
    mixed56,
    mixed61,
  ],
})

export default plugin
