import {
  Decoder,
  DecoderOptions,
  FlowControl,
  Instruction,
  Mnemonic,
  OpKind,
  Register,
} from 'iced-x86'

import type { CodeImage, CodeRange } from './code-image.ts'
import { describeForm, type Form, type FormBits, formOf } from './form.ts'

/** What was found in a piece of code. */
export interface Collection {
  /** By its line: the form, and the first address that it was seen at. */
  readonly forms: Map<string, { readonly form: Form; readonly address: number }>
  /** Instructions that were decoded. */
  instructions: number
  /** Candidates that turned out to be no code. */
  refused: number
}

/**
 * Decodes what can be reached from the roots of an image, by recursive descent; then from each candidate in turn, where everything that it leads to is a plausible function:
 * it decodes, stays in the code and holds nothing that compilers do not write.
 */
export function collectForms(image: CodeImage): Collection {
  const descent = new Descent(image)
  for (const { address, bits, size } of image.roots) descent.follow(address, bits, size)
  descent.tryCandidates()
  return descent.collection
}

interface Step {
  readonly address: number
  readonly bits: FormBits
  readonly length: number
  readonly form: Form
  readonly mnemonic: Mnemonic
  readonly privileged: boolean
  /** Where it may go, in the same mode. */
  readonly next: readonly number[]
  /** Where a far jump goes, which enters 64-bit mode. */
  readonly far: number | undefined
  /** The address relative to RIP that LEA computes. */
  readonly taken: number | undefined
}

/** What a function pointer does not lead to: data that happens to decode has these. */
const IMPLAUSIBLE: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.INVALID,
  Mnemonic.Insb,
  Mnemonic.Insd,
  Mnemonic.Outsb,
  Mnemonic.Outsd,
  Mnemonic.In,
  Mnemonic.Out,
  Mnemonic.Hlt,
  Mnemonic.Iretd,
  Mnemonic.Retf,
  Mnemonic.Enter,
  Mnemonic.Xlatb,
  Mnemonic.Loop,
  Mnemonic.Loope,
  Mnemonic.Loopne,
  Mnemonic.Jrcxz,
  Mnemonic.Int,
])

class Descent {
  readonly collection: Collection = { forms: new Map(), instructions: 0, refused: 0 }
  readonly #image: CodeImage
  readonly #visited = new Set<number>()
  readonly #decoders = new Map<string, Decoder>()
  readonly #instruction = new Instruction()
  /** In the order in which they were found; what they lead to adds more. */
  readonly #candidates: Set<number>

  constructor(image: CodeImage) {
    this.#image = image
    this.#candidates = new Set(image.candidates)
  }

  /** Follows code that is known to be some; `size` bytes of it are decoded one instruction after the other as well. */
  follow(root: number, bits: FormBits, size = 0): void {
    const pending: { address: number; bits: FormBits }[] = [{ address: root, bits }]
    for (let at = root; at < root + size;) {
      const step = this.#decode(at, bits)
      if (step === undefined) break
      pending.push({ address: at, bits })
      at += step.length
    }
    for (;;) {
      const place = pending.pop()
      if (place === undefined) return
      if (this.#visited.has(place.address)) continue
      const step = this.#decode(place.address, place.bits)
      if (step === undefined) continue
      this.#keep(step)
      for (const address of step.next) pending.push({ address, bits: place.bits })
      if (step.far !== undefined) pending.push({ address: step.far, bits: 64 })
    }
  }

  /** Follows the candidates that lead to code, of which nothing is kept otherwise. */
  tryCandidates(): void {
    for (const candidate of this.#candidates) {
      if (!this.#tryFollow(candidate)) this.collection.refused++
    }
  }

  #tryFollow(root: number): boolean {
    const steps = new Map<number, Step>()
    const pending = [root]
    for (;;) {
      const address = pending.pop()
      if (address === undefined) break
      if (this.#visited.has(address) || steps.has(address)) continue
      const step = this.#decode(address, 64)
      if (step === undefined || step.privileged || IMPLAUSIBLE.has(step.mnemonic)) return false
      steps.set(address, step)
      pending.push(...step.next)
    }
    for (const step of steps.values()) this.#keep(step)
    return true
  }

  #keep(step: Step): void {
    this.#visited.add(step.address)
    this.collection.instructions++
    if (step.taken !== undefined) this.#candidates.add(step.taken)
    const line = describeForm(step.form)
    if (!this.collection.forms.has(line)) {
      this.collection.forms.set(line, { form: step.form, address: step.address })
    }
  }

  /** Undefined where there is no instruction. */
  #decode(address: number, bits: FormBits): Step | undefined {
    const range = this.#image.ranges.find((each) => isInside(each, address))
    if (range === undefined) return undefined
    const decoder = this.#decoderOf(range, bits)
    decoder.position = address - range.address
    decoder.ip = BigInt(address)
    const instruction = this.#instruction
    decoder.decodeOut(instruction)
    if (instruction.isInvalid) return undefined
    return {
      address,
      bits,
      length: instruction.length,
      form: formOf(instruction, bits),
      mnemonic: instruction.mnemonic,
      privileged: instruction.isPrivileged,
      next: nextOf(instruction, address),
      far: instruction.op0Kind === OpKind.FarBranch32 ? instruction.farBranch32 : undefined,
      taken:
        instruction.mnemonic === Mnemonic.Lea && instruction.memoryBase === Register.RIP
          ? Number(instruction.ipRelMemoryAddress)
          : undefined,
    }
  }

  #decoderOf(range: CodeRange, bits: FormBits): Decoder {
    const key = `${bits} ${range.address}`
    const known = this.#decoders.get(key)
    if (known !== undefined) return known
    const decoder = new Decoder(bits, range.bytes, DecoderOptions.None)
    this.#decoders.set(key, decoder)
    return decoder
  }
}

function nextOf(instruction: Instruction, address: number): number[] {
  const following = address + instruction.length
  const target =
    instruction.op0Kind === OpKind.NearBranch64 || instruction.op0Kind === OpKind.NearBranch32
      ? [Number(instruction.nearBranchTarget)]
      : []
  const { flowControl } = instruction
  if (flowControl === FlowControl.UnconditionalBranch) return target
  if (ENDS.has(flowControl)) return []
  return [following, ...target]
}

/** Where nothing of what follows is known to be code. */
const ENDS: ReadonlySet<FlowControl> = new Set([
  FlowControl.IndirectBranch,
  FlowControl.Return,
  FlowControl.Exception,
])

function isInside({ address: start, bytes }: CodeRange, address: number): boolean {
  return address >= start && address < start + bytes.length
}
