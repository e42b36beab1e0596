import { definePlugin, type Plugin } from '@trapdoor/harness'
import { h01PerCpuSaveArea } from './h01-per-cpu-save-area.ts'
import { h03TableMemory } from './h03-table-memory.ts'
import { h06PageZero } from './h06-page-zero.ts'
import { h07MemoryTypeAliasing } from './h07-memory-type-aliasing.ts'
import { h08OneWay } from './h08-one-way.ts'
import { h09StaleTranslations } from './h09-stale-translations.ts'
import { h10WritableExecutable } from './h10-writable-executable.ts'
import { h15InterruptInside } from './h15-interrupt-inside.ts'
import { h16KernelHalf } from './h16-kernel-half.ts'
import { h18MemoryOwnership } from './h18-memory-ownership.ts'
import { h19Unmapped } from './h19-unmapped.ts'

export { h01PerCpuSaveArea } from './h01-per-cpu-save-area.ts'
export { h03TableMemory } from './h03-table-memory.ts'
export { h06PageZero } from './h06-page-zero.ts'
export { h07MemoryTypeAliasing } from './h07-memory-type-aliasing.ts'
export { h08OneWay } from './h08-one-way.ts'
export { h09StaleTranslations } from './h09-stale-translations.ts'
export { h10WritableExecutable } from './h10-writable-executable.ts'
export { h15InterruptInside } from './h15-interrupt-inside.ts'
export { h16KernelHalf } from './h16-kernel-half.ts'
export { h18MemoryOwnership } from './h18-memory-ownership.ts'
export { h19Unmapped } from './h19-unmapped.ts'

// A death is explained by the first rule that knows its cause: the narrower ones come first.
const plugin: Plugin = definePlugin({
  name: '@trapdoor/rule-hazards',
  apiVersion: 1,
  rules: [
    h01PerCpuSaveArea,
    h03TableMemory,
    h06PageZero,
    h07MemoryTypeAliasing,
    h09StaleTranslations,
    h10WritableExecutable,
    h15InterruptInside,
    h16KernelHalf,
    h18MemoryOwnership,
    h08OneWay,
    h19Unmapped,
  ],
})

export default plugin
