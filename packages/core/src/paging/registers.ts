import { Cr4, Efer, CR0_LONG_MODE } from '../cpu/control.ts'
import type { CpuFeatures } from '../cpu/features.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import type { TranslationContext } from './inspect.ts'
import { pagingMode } from './mode.ts'

/** Memory, and the registers that say how a CPU reads page tables in it. */
export interface PagingRegisters {
  readonly memory: PhysicalMemory
  readonly features: CpuFeatures
  /** CR3 as it reads: with PWT and PCD, a PCID, or the bits of linear-address masking. */
  readonly cr3: number | bigint
  /** Default: paging is on. */
  readonly cr0?: number
  /** Default: PAE, and no more. */
  readonly cr4?: number
  /** Default: long mode with no-execute pages. */
  readonly efer?: number
}

/** The translation environment that control registers select: by default 4-level paging with NX, which a 64-bit system most likely runs in. */
export function contextFromRegisters({
  memory,
  features,
  cr3,
  cr0 = CR0_LONG_MODE,
  cr4 = Cr4.PAE,
  efer = Efer.LME | Efer.LMA | Efer.NXE,
}: PagingRegisters): TranslationContext {
  const mode = pagingMode(cr0, cr4, efer)
  const rootBits = BigInt(cr3) & (mode.linearBits === 32 ? 0xffff_ffffn : 0xf_ffff_ffff_ffffn)
  const below = mode.rootInRegisters ? 0x1fn : 0xfffn
  return {
    memory,
    mode,
    features,
    // 32-bit entries have no NX bit (SDM Vol. 3, 4.6.1).
    noExecute: (efer & Efer.NXE) !== 0 && mode.entryBytes === 8,
    root: Number(rootBits & ~below),
  }
}
