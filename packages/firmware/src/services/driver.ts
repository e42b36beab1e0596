import type { Machine } from '@trapdoor/core'
import type { RuntimeImage } from '../layout/image.ts'
import type { FirmwareHooks } from '../quirk/hooks.ts'

/** What a driver's entry point gets at power-on. */
export interface DriverContext {
  /** Its own image, placed and empty but for the slots "gRT" and "globals". */
  readonly image: RuntimeImage
  readonly machine: Machine
  readonly hooks: FirmwareHooks
  /** Zeroed pages of RuntimeServicesData; returns their physical address. */
  readonly allocatePool: (pages: number, name: string) => number
}

/** A DXE runtime driver: it adds its services to the image, and takes pool for its state. */
export interface RuntimeDriver {
  readonly name: string
  readonly install: (context: DriverContext) => void
}
