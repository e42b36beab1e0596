import {
  type Cpu,
  Cr0,
  Cr4,
  Efer,
  FIVE_LEVEL,
  flatSegment,
  FOUR_LEVEL,
  PAE,
  type PagingMode,
  type PhysicalAddress,
  Segment,
} from '@trapdoor/core'

/** What of CR4 and EFER selects a paging mode, and whether it is 64-bit code that runs in it. */
interface ModeControls {
  readonly cr4: number
  readonly longMode: boolean
}

const CONTROLS: ReadonlyMap<PagingMode, ModeControls> = new Map([
  [FIVE_LEVEL, { cr4: Cr4.PAE | Cr4.LA57, longMode: true }],
  [FOUR_LEVEL, { cr4: Cr4.PAE, longMode: true }],
  [PAE, { cr4: Cr4.PAE, longMode: false }],
])
/** 32-bit paging with 4 MiB pages. */
const WITHOUT_PAE: ModeControls = { cr4: Cr4.PSE, longMode: false }
const MODE_BITS = Cr4.PAE | Cr4.PSE | Cr4.LA57

/**
 * Loads a root of page tables for a paging mode, with the way there where the CPU is in another: paging off, in a segment with CS.L clear, then CR4, EFER.LME, CR3, and paging on
 * (startup_32 of arch/x86/boot/compressed/head_64.S and arch/x86/kernel/head_32.S, trampoline_32bit_src for five levels). The code that does so is where it is mapped 1:1.
 */
export function switchPagingMode(cpu: Cpu, mode: PagingMode, root: PhysicalAddress): void {
  if (cpu.mode === mode) {
    cpu.writeCr3(root)
    return
  }
  const { cr4, longMode } = CONTROLS.get(mode) ?? WITHOUT_PAE
  cpu.loadSegment(Segment.CS, flatSegment(cpu.cs, 'code-32'))
  cpu.writeCr0(cpu.cr0 & ~Cr0.PG)
  cpu.writeCr4((cpu.cr4 & ~MODE_BITS) | cr4)
  cpu.writeEfer(longMode ? cpu.efer | Efer.LME : cpu.efer & ~Efer.LME)
  cpu.writeCr3(root)
  cpu.writeCr0(cpu.cr0 | Cr0.PG)
  cpu.loadSegment(Segment.CS, flatSegment(cpu.cs, longMode ? 'code-64' : 'code-32'))
}
