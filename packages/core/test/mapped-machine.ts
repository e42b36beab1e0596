import {
  BROADWELL,
  type Cpu,
  Efer,
  Machine,
  type MachineOptions,
  PAGE_SIZE,
  PageTableBuilder,
  phys,
} from '../src/index.ts'

export interface MappedMachine {
  readonly machine: Machine
  readonly cpu: Cpu
  readonly tables: PageTableBuilder
}

/** A machine with an empty root table at 64 KiB in CR3 of every CPU; tables are taken upwards from there. No-execute is on where the CPU has it. */
export function mappedMachine(options: MachineOptions = {}): MappedMachine {
  const features = options.features ?? BROADWELL
  const machine = new Machine({ ...options, features })
  let next = 0x11
  const tables = new PageTableBuilder(machine.memory, phys(0x10 * PAGE_SIZE), () => next++)
  for (const cpu of machine.cpus) {
    cpu.writeEfer(cpu.efer | (features.nx ? Efer.NXE : 0))
    cpu.writeCr3(tables.root)
  }
  return { machine, cpu: machine.bootCpu, tables }
}
