import {
  type CpuFeatures,
  cmosRegisters,
  type FrameOwner,
  type InstructionExecutor,
  loadDump,
  Machine,
  PAGE_SIZE,
  ParallelFlash,
  type PhysicalMemory,
} from '@trapdoor/core'
import type { FirmwareSnapshot } from '@trapdoor/snapshot'
import { mtrrsOf, ownFrames } from '../layout/machine-memory.ts'
import { startFromSnapshot } from './start-cpus.ts'

/** What a snapshot is put on. */
export interface RealMachineOptions {
  readonly features: CpuFeatures
  readonly executor: InstructionExecutor
  /** Default 1. */
  readonly cpus?: number
  /** See core's Machine; default: none. */
  readonly instructionLimit?: number
}

/** A machine with the memory, the devices and the registers of a snapshot. CPUs beside the first have the same registers. */
export function loadMachine(
  snapshot: FirmwareSnapshot,
  { features, executor, cpus = 1, instructionLimit = Infinity }: RealMachineOptions,
): Machine {
  const { memoryMap, board, smm, flash } = snapshot
  const machine = new Machine({
    cpus,
    features,
    mtrrs: mtrrsOf(memoryMap),
    start: 'reset',
    chipset: {
      board,
      cmos: snapshot.cmos ?? cmosRegisters({ bcd: true }),
      hasSmiHandler: smm,
    },
  })
  machine.executor = executor
  machine.instructionLimit = instructionLimit
  const { memory } = machine
  for (const { address, bytes } of snapshot.pages) {
    loadDump(memory, bytes, [[address, bytes.length / PAGE_SIZE]])
  }
  if (flash !== undefined) {
    const { address: start, contents } = flash
    memory.write(start, contents)
    memory.attachDevice(
      new ParallelFlash(memory, { start, end: start + contents.length, secure: smm }),
    )
  }
  ownFrames(machine, memoryMap)
  if (flash !== undefined) own(memory, flash.address, flash.contents.length, FLASH)
  for (const { name, base, bytes } of snapshot.images) {
    own(memory, base, bytes, { kind: 'firmware', name })
  }
  for (const cpu of machine.cpus) startFromSnapshot(cpu, snapshot.cpu)
  return machine
}

const FLASH: FrameOwner = { kind: 'device', name: 'flash' }

function own(memory: PhysicalMemory, address: number, bytes: number, owner: FrameOwner): void {
  memory.owners.set(address / PAGE_SIZE, Math.ceil((address + bytes) / PAGE_SIZE), owner)
}
