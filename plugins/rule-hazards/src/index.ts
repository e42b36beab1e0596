import { definePlugin, type Plugin } from '@trapdoor/harness'
import { firmwareException } from './firmware-exception.ts'
import { h01PerCpuSaveArea } from './h01-per-cpu-save-area.ts'
import { h02Serialisation } from './h02-serialisation.ts'
import { h03TableMemory } from './h03-table-memory.ts'
import { h04AllocatorPhase } from './h04-allocator-phase.ts'
import { h05Cr3OfTheTask } from './h05-cr3-of-the-task.ts'
import { h06PageZero } from './h06-page-zero.ts'
import { h07MemoryTypeAliasing } from './h07-memory-type-aliasing.ts'
import { h08OneWay } from './h08-one-way.ts'
import { h09StaleTranslations } from './h09-stale-translations.ts'
import { h10WritableExecutable } from './h10-writable-executable.ts'
import { h11UserPages } from './h11-user-pages.ts'
import { h12NoExecuteAbove } from './h12-no-execute-above.ts'
import { h13BranchTracking } from './h13-branch-tracking.ts'
import { h14CallingConvention } from './h14-calling-convention.ts'
import { h15InterruptInside } from './h15-interrupt-inside.ts'
import { h16KernelHalf } from './h16-kernel-half.ts'
import { h17SharedTables } from './h17-shared-tables.ts'
import { h18MemoryOwnership } from './h18-memory-ownership.ts'
import { h19Unmapped } from './h19-unmapped.ts'
import { h20Segments } from './h20-segments.ts'
import { h21EarlyAndLate } from './h21-early-and-late.ts'
import { h22AddressWidth } from './h22-address-width.ts'
import { h23AddressCollision } from './h23-address-collision.ts'
import { hibernationDrift } from './hibernation-drift.ts'
import { smiWithoutHandler } from './smi-without-handler.ts'

export { firmwareException } from './firmware-exception.ts'
export { h01PerCpuSaveArea } from './h01-per-cpu-save-area.ts'
export { h02Serialisation } from './h02-serialisation.ts'
export { h03TableMemory } from './h03-table-memory.ts'
export { h04AllocatorPhase } from './h04-allocator-phase.ts'
export { h05Cr3OfTheTask } from './h05-cr3-of-the-task.ts'
export { h06PageZero } from './h06-page-zero.ts'
export { h07MemoryTypeAliasing } from './h07-memory-type-aliasing.ts'
export { h08OneWay } from './h08-one-way.ts'
export { h09StaleTranslations } from './h09-stale-translations.ts'
export { h10WritableExecutable } from './h10-writable-executable.ts'
export { h11UserPages } from './h11-user-pages.ts'
export { h12NoExecuteAbove } from './h12-no-execute-above.ts'
export { h13BranchTracking } from './h13-branch-tracking.ts'
export { h14CallingConvention } from './h14-calling-convention.ts'
export { h15InterruptInside } from './h15-interrupt-inside.ts'
export { h16KernelHalf } from './h16-kernel-half.ts'
export { h17SharedTables } from './h17-shared-tables.ts'
export { h18MemoryOwnership } from './h18-memory-ownership.ts'
export { h19Unmapped } from './h19-unmapped.ts'
export { h20Segments } from './h20-segments.ts'
export { h21EarlyAndLate } from './h21-early-and-late.ts'
export { h22AddressWidth } from './h22-address-width.ts'
export { h23AddressCollision } from './h23-address-collision.ts'
export { hibernationDrift } from './hibernation-drift.ts'
export { smiWithoutHandler } from './smi-without-handler.ts'

// A death is explained by the first rule that knows its cause: the narrower ones come first.
const plugin: Plugin = definePlugin({
  name: '@trapdoor/rule-hazards',
  apiVersion: 1,
  rules: [
    h01PerCpuSaveArea,
    h02Serialisation,
    h04AllocatorPhase,
    h05Cr3OfTheTask,
    h11UserPages,
    h12NoExecuteAbove,
    h13BranchTracking,
    h14CallingConvention,
    h17SharedTables,
    h20Segments,
    h21EarlyAndLate,
    h22AddressWidth,
    h23AddressCollision,
    h03TableMemory,
    h06PageZero,
    h07MemoryTypeAliasing,
    hibernationDrift,
    h09StaleTranslations,
    h10WritableExecutable,
    h15InterruptInside,
    h16KernelHalf,
    h18MemoryOwnership,
    h08OneWay,
    h19Unmapped,
    firmwareException,
    smiWithoutHandler,
  ],
})

export default plugin
