import type { CpuFeatures } from '@trapdoor/core'

import type { TableLayout } from '../cases/table-layout.ts'
import type { TablePlaces } from '../cases/table-set.ts'
import type { GuestImage } from '../guest/image.ts'

/** What a guest left in the memory that the host prepared for it. */
export interface GuestMemory {
  readonly results: Buffer
  readonly tables: Buffer
}

/** An emulator that we did not write, and what it emulates. */
export interface Emulator {
  readonly name: EmulatorName
  /** Makes its cases others than those of another emulator with the same seed. */
  readonly stream: number
  readonly places: TablePlaces
  readonly features: CpuFeatures
  /** When it sets accessed flags above a fault. */
  readonly accessedFlags: 'lazy' | 'eager'
  /** What its page tables look like, by turns. */
  readonly layouts: readonly TableLayout[]
  /** How many cases it gets at a time. */
  readonly casesPerRun: number
  /** How many a run of the command gives it if not told otherwise. */
  readonly defaultCases: number
  /** Runs a guest to its end. `directory` is an empty folder for its files. Throws {@link EmulatorError}. */
  run(image: GuestImage, directory: string): Promise<GuestMemory>
}

export type EmulatorName = 'qemu' | 'bochs'

/** An emulator could not be started, or did not come to its end. */
export class EmulatorError extends Error {
  readonly code: 'EMULATOR_MISSING' | 'EMULATOR_FAILED'
  readonly hint: string

  constructor(code: EmulatorError['code'], message: string, hint: string) {
    super(message)
    this.name = 'EmulatorError'
    this.code = code
    this.hint = hint
  }
}
