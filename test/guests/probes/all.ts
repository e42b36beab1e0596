import type { Probe } from '../probe.ts'
import { farTransfers } from './far-transfers.ts'
import { flagInstructions, interrupts } from './interrupts.ts'
import { legacyInstructions } from './legacy.ts'
import { controlRegisters, modelSpecific } from './registers.ts'
import { segmentInstructions, segmentLoads } from './segments.ts'
import { systemCalls } from './system-calls.ts'
import { descriptorTables } from './tables.ts'

/** Everything that segments, tables, transfers and interrupts do, as far as a probe can show it beside QEMU. */
export function allProbes(): Probe[] {
  return [
    ...segmentLoads(),
    ...segmentInstructions(),
    ...descriptorTables(),
    ...controlRegisters(),
    ...modelSpecific(),
    ...flagInstructions(),
    ...interrupts(),
    ...farTransfers(),
    ...systemCalls(),
    ...legacyInstructions(),
  ]
}
