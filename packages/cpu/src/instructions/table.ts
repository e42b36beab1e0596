import type { Mnemonic } from 'iced-x86'
import type { Operation } from '../decode/block.ts'
import type { DecodedInstruction } from '../decode/decoded-instruction.ts'
import { invalidOpcode } from './undefined.ts'

/** Makes the operation of an instruction, or returns undefined for a form that it does not have, which may be another family's. */
export type Translator = (decoded: DecodedInstruction) => Operation | undefined

/** The translator of an instruction that no CPU here has, as CPUID says: #UD. */
export const undefinedHere: Translator = ({ bytes }) => invalidOpcode(bytes)

/** Instructions that belong together, by iced's mnemonics. */
export interface InstructionFamily {
  readonly name: string
  readonly translators: ReadonlyMap<Mnemonic, Translator>
  /** Those after which the next instruction may have to be fetched or decoded in another way, or that run gates, branches apart: they end a block. */
  readonly endBlock?: ReadonlySet<Mnemonic>
}

/** All families of an interpreter. Of several that have a mnemonic, as MOVSD is a string instruction and one of SSE, the first that has the form counts. */
export class InstructionTable {
  readonly #translators: Map<Mnemonic, Translator[]> = new Map()
  readonly #endBlock: Set<Mnemonic> = new Set()

  constructor(families: readonly InstructionFamily[]) {
    for (const { translators, endBlock } of families) {
      for (const [mnemonic, translator] of translators) {
        const known = this.#translators.get(mnemonic)
        if (known === undefined) this.#translators.set(mnemonic, [translator])
        else known.push(translator)
      }
      for (const mnemonic of endBlock ?? []) this.#endBlock.add(mnemonic)
    }
  }

  endsBlock(decoded: DecodedInstruction): boolean {
    return this.#endBlock.has(decoded.mnemonic) || decoded.isRepeated
  }

  /** Undefined for an instruction that no family has. */
  translate(decoded: DecodedInstruction): Operation | undefined {
    for (const translator of this.#translators.get(decoded.mnemonic) ?? []) {
      const operation = translator(decoded)
      if (operation !== undefined) return operation
    }
    return undefined
  }
}
