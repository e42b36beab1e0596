import type { Architecture } from '@trapdoor/uefi'
import type { FirmwareHooks, QuirkHookName } from './hooks.ts'

/** What a quirk may put at each hook. */
export type QuirkTaps = {
  readonly [Name in QuirkHookName]?: Parameters<FirmwareHooks[Name]['tap']>[1]
}

/** A habit of real firmware. It knows neither the kernel nor the strategy that it meets, and keeps its state in the machine's memory. */
export interface Quirk {
  /** Number in the catalog, such as "Q06". */
  readonly id: string
  /** Such as "svam-required". */
  readonly name: string
  /** One sentence: what the firmware does. */
  readonly title: string
  /** Where it was seen: commits, mails, bug reports. */
  readonly sources: readonly string[]
  /** What firmware has to be built for to have it; default anything. */
  readonly architectures?: readonly Architecture['name'][]
  readonly hooks: QuirkTaps
}
