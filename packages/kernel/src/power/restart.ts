import { type Cpu, MachineReset } from '@trapdoor/core'
import { KernelPanic } from '../error.ts'
import type { Kernel } from '../kernel.ts'
import { identityRoot } from '../memory/identity-map.ts'

/**
 * machine_real_restart() (arch/x86/kernel/reboot.c): the CPU goes to an identity map, by way of code below 1 MiB to real mode, and to the BIOS's reset vector. Throws the MachineReset that follows;
 * panics where no page below 1 MiB was free, and faults where the map does not have that code.
 */
export function machineRealRestart(kernel: Kernel, cpu: Cpu): never {
  const { realModeMemory } = kernel
  if (realModeMemory === undefined) {
    throw new KernelPanic('Real mode trampoline was not allocated: no free page below 1 MiB')
  }
  cpu.writeCr3(identityRoot(kernel, realModeMemory))
  cpu.translate(BigInt(realModeMemory.code), 'execute')
  throw new MachineReset('warm', 'the kernel, through the BIOS')
}
