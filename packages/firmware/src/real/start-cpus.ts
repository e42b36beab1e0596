import { type Cpu, Cr0, Cr4, Efer, FloatingPointState, Segment } from '@trapdoor/core'
import { type CpuState, GENERAL_REGISTERS } from '@trapdoor/snapshot'

const SEGMENTS = [
  ['es', Segment.ES],
  ['cs', Segment.CS],
  ['ss', Segment.SS],
  ['ds', Segment.DS],
  ['fs', Segment.FS],
  ['gs', Segment.GS],
] as const

/** Gives a CPU that is as RESET has left it the registers of a snapshot, by way of the writes that a processor allows in this order (SDM Vol. 3, 10.8.5). */
export function startFromSnapshot(cpu: Cpu, state: CpuState): void {
  cpu.writeCr0(Cr0.PE)
  cpu.writeCr4(state.cr4 & ~Cr4.PCIDE)
  cpu.writeEfer(state.efer & ~Efer.LMA)
  cpu.writeCr3(state.cr3)
  cpu.writeCr0(state.cr0)
  if ((state.cr4 & Cr4.PCIDE) !== 0) cpu.writeCr4(state.cr4)
  for (const [name, number] of SEGMENTS) {
    const segment = state.segments[name]
    if (segment !== undefined) cpu.loadSegment(number, segment)
  }
  // As a firmware hands over (UEFI 2.10, 2.3.4.1), whether the snapshot says so or not.
  cpu.floatingPoint = new FloatingPointState('initialised')
  cpu.cr2 = state.cr2
  cpu.gdtr = state.gdt
  cpu.idtr = state.idt
  for (const [number, name] of GENERAL_REGISTERS.entries()) {
    cpu.general64[number] = state.general[name]
  }
  cpu.rip = state.rip
  cpu.rflags = Number(state.rflags)
}
