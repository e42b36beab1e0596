import { afterWrite } from '../oracle/control-registers.ts'
import { fateOf } from '../oracle/invalidation.ts'
import { linearAddressFault } from '../oracle/linear-address.ts'
import { TranslationOracle, type TranslationState } from '../oracle/translation.ts'

/** The oracles that sets compare with. A seeded defect stands in for one of them. */
export interface Manuals {
  translation(state: TranslationState): TranslationOracle
  readonly linearAddressFault: typeof linearAddressFault
  readonly afterWrite: typeof afterWrite
  readonly fateOf: typeof fateOf
}

/** The manuals as they are. */
export const MANUALS: Manuals = {
  translation: (state) => new TranslationOracle(state),
  linearAddressFault,
  afterWrite,
  fateOf,
}
