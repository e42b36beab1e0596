import { AccessKind, CR3_KEEP_TRANSLATIONS, type Cpu, Cr4, FAULT } from '@trapdoor/core'

import { PLAIN_STATE } from '../oracle/register-state.ts'
import { Processor } from '../trial/processor.ts'

export const ROOT = 0x1_0000

/** The registers of a world in which flushes are tried. */
export interface FlushWorld {
  readonly structure: '4-level' | '5-level'
  readonly pge: boolean
  readonly pcide: boolean
  readonly smep: boolean
  readonly structureCaches: boolean
}

/** The PCIDs in use: all on one root, so that a global page is the same page in each. */
export function pcidsOf(world: FlushWorld): readonly number[] {
  return world.pcide ? [0, 1, 5] : [0]
}

/** The context in which operations are done. */
export function currentPcid(world: FlushWorld): number {
  return world.pcide ? 1 : 0
}

/** A processor with page tables that the caller writes entry by entry. */
export class FlushMachine {
  readonly cpu: Cpu
  readonly #processor: Processor

  constructor(world: FlushWorld) {
    this.#processor = new Processor(
      { ...PLAIN_STATE, structure: world.structure, smep: world.smep },
      ROOT,
      { structureCaches: world.structureCaches },
    )
    this.cpu = this.#processor.cpu
    this.cpu.writePkrs(0)
    this.cpu.writeCr4(this.cpu.cr4 | (world.pge ? Cr4.PGE : 0) | (world.pcide ? Cr4.PCIDE : 0))
  }

  write(table: number, index: number, entry: number): void {
    this.writeEntry(table, index, BigInt(entry))
  }

  /** The same, with flags above bit 52. */
  writeEntry(table: number, index: number, entry: bigint): void {
    this.#processor.machine.memory.write64(table + index * 8, entry)
  }

  /** Turns to another context, in which nothing is dropped. */
  enter(pcid: number): void {
    const keep = (this.cpu.cr4 & Cr4.PCIDE) === 0 ? 0n : CR3_KEEP_TRANSLATIONS
    if (keep !== 0n) this.cpu.writeCr3(BigInt(ROOT + pcid) | keep)
  }

  /** The frame that a supervisor's access reaches, or why not. */
  access(address: bigint, kind: number = AccessKind.Read): string {
    const { mmu } = this.cpu
    const high = Number(BigInt.asIntN(32, address >> 32n))
    const frame = mmu.translate(high, Number(BigInt.asIntN(32, address)), kind)
    return frame === FAULT ? `#PF ${mmu.errorCode}` : `frame 0x${frame.toString(16)}`
  }
}

export function describeWorld(world: FlushWorld): string {
  const flags = [
    world.pge && 'PGE',
    world.pcide && 'PCIDE',
    world.smep && 'SMEP',
    !world.structureCaches && 'no structure caches',
  ].filter(Boolean)
  return `${world.structure} ${flags.join(' ')}`
}
